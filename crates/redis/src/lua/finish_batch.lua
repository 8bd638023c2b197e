-- Ends a batch, and publishes its messages, each once for each key. A message that the store has had before may have been
-- published before. A repeated call gets the first one's answer.
local id, has_failed = ARGV[8], ARGV[9] == '1'

if is_fenced() then return { 'FENCED' } end
local current, first, len, since, ended, answered =
  unpack(redis.call('HMGET', batches, 'id', 'first', 'len', 'since', 'ended', 'answer'))
if ended == id then return cmsgpack.unpack(answered) end
if current ~= id then return { 'GONE' } end
first, len = tonumber(first), tonumber(len)
redis.call('HDEL', batches, 'id', 'first', 'len', 'until')
local found = load_room()
if not found then
  note_missing(first, len, {})
  return { 'NO_ROOM' }
end
if has_failed then
  local published = {}
  for i = 12, #ARGV, 5 do published[tonumber(ARGV[i])] = true end
  note_missing(first, len, published)
end

-- Of what was before `since`, nothing is known. A client repeats a message only if it got no answer; the host may do it always.
local function was_published(member, message)
  local is_missing = redis.call('ZREM', missing, text(message)) == 1
  return not is_missing and (message >= tonumber(since) or member == '')
end

local reply = { 'OK' }
local function add(epoch, event, seq, num, is_repeat, message)
  for _, value in ipairs({ epoch, event, seq, num, is_repeat, message }) do reply[#reply + 1] = value end
end
for i = 10, #ARGV, 5 do
  local member, key, message, is_known, body = unpack(ARGV, i, i + 4)
  message = tonumber(message)
  local known = receipt_of(key)
  if known then
    local epoch, event, seq, num, at = struct.unpack('>c8I8I8I8I8', known)
    add(epoch, event, seq, num, 1, at)
  elseif is_known == '1' and was_published(member, message) then
    add(found.epoch, found.event, found.seq, found.num, 1, message)
  else
    local latest = math.max(found.id, first - 1)
    if message < latest then note_late(message, latest + 1) end
    found.id = math.max(found.id, message)
    local packed_id = struct.pack('>I8', message)
    append(found, PUBLISH, member, packed_id .. body)
    remember(key, stamp(found) .. packed_id)
    add(found.epoch, found.event, found.seq, found.num, 0, message)
  end
end
redis.call('HSET', batches, 'ended', id, 'answer', cmsgpack.pack(reply))
return reply
