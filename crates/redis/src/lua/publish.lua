-- Publishes a body. A message whose key is known is not published again: the answer is the first one's.
--
-- The id of a message is higher than those of earlier ones in its room: the milliseconds since 2020, followed by 12 bits
-- that count the messages of the same millisecond.
local YEAR_2020, IDS_PER_MS = 1577836800000, 4096
local member, key, body = unpack(ARGV, 8, 10)

if is_fenced() then return { 'FENCED' } end
local known = receipt_of(key)
if known then
  local epoch, event, seq, num, id = struct.unpack('>c8I8I8I8I8', known)
  return { 'OK', epoch, event, seq, num, 1, id }
end
local found = load_room()
if not found then return { 'NO_ROOM' } end
if member ~= '' and redis.call('HEXISTS', members, member) == 0 then return { 'NOT_MEMBER' } end

found.id = math.max(found.id + 1, (now_ms() - YEAR_2020) * IDS_PER_MS)
local packed_id = struct.pack('>I8', found.id)
append(found, PUBLISH, member, packed_id .. body)
remember(key, stamp(found) .. packed_id)
return answer(found, 0, found.id)
