-- Removes members of a fenced node: the removal and its event are one step, so there is one whichever node reaps. `own`
-- says that the node itself does it, after it has moved its sessions to its next incarnation.
local DAY = 24 * 3600 * 1000
local batch, is_own, pause = tonumber(ARGV[8]), ARGV[9] == 'own', tonumber(ARGV[10])
local call = tag .. 'reaped:' .. ARGV[11]

-- A repeated call: whoever has removed a member must learn of it.
local earlier = redis.call('GET', call)
if earlier then return cmsgpack.unpack(earlier) end

local lease = tonumber(redis.call('ZSCORE', nodes, node) or '0')
if lease > 0 then return { 'ALIVE' } end
local found = load_room()
-- All nodes together remove one batch in this time. The server's clock may have gone back since.
local since = found and now_ms() - tonumber(redis.call('HGET', meta, 'reaped') or '0')
if found and since >= 0 and since < pause then return { 'OK', 0 } end
-- The members of resumable sessions have until the end of their resume window, which began with the fence.
local fenced_for = now_ms() + lease
-- How long the rest is kept, in ms; 0 if the batch is too small.
local rest_kept, cursor, reply = DAY, '0', { 'OK' }
local function is_kept(member, parsed)
  if parsed.session == '' or fenced_for >= parsed.keep then return false end
  local session = session_of(member, parsed)
  -- The node may not have had the time to remove the members of a session that it has closed.
  if not session then return false end
  -- The node itself may not know that it has taken the session over, but is about to learn of it.
  return not is_own or redis.call('HGET', session, 'node') == node
end
repeat
  local page = redis.call('HSCAN', members, cursor, 'COUNT', ARGV[8])
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local member, parsed = page[2][i], parse_record(page[2][i + 1])
    if not is_kept(member, parsed) then
      if batch == 0 then
        rest_kept = 0
        break
      end
      batch = batch - 1
      if found then
        remove(found, member, parsed, parsed.is_silent, parsed.leave_body)
        local profile, is_hidden = page[2][i + 1]:sub(parsed.profile), parsed.is_hidden and 1 or 0
        for _, value in ipairs({ member, profile, is_hidden, found.epoch, found.event, found.seq, found.num }) do
          reply[#reply + 1] = value
        end
      else
        redis.call('HDEL', members, member)
      end
    else
      rest_kept = math.min(rest_kept, parsed.keep - fenced_for)
    end
  end
until cursor == '0' or rest_kept == 0
if found and #reply > 1 then redis.call('HSET', meta, 'reaped', string.format('%.0f', now_ms())) end
clean_up(found)
table.insert(reply, 2, rest_kept)
-- A node repeats the call for its own members until it is answered.
if #reply > 2 then redis.call('SET', call, cmsgpack.pack(reply), 'PX', is_own and 3600000 or 60000) end
return reply
