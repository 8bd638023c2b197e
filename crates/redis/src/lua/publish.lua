-- Publishes a body. A message whose key is known is not published again: the answer is the first one's.
--
-- The id of a message is higher than those of earlier ones in its room: the milliseconds since 2020, followed by 12 bits
-- that count the messages of the same millisecond.
local YEAR_2020, IDS_PER_MS = 1577836800000, 4096
local member, key, body = unpack(ARGV, 8, 10)
local _, _, id_window, max_ids = struct.unpack('>I4I8I8I4', limits)

if is_fenced() then return { 'FENCED' } end
local known = redis.call('HGET', ids, key) or redis.call('HGET', old_ids, key)
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
-- Each key is kept for the window at least: it is in `ids` for up to one window, and in `old_ids` for another.
local left = redis.call('PTTL', ids)
if left >= 0 and (left < id_window or redis.call('HLEN', ids) >= max_ids) then
  redis.call('RENAME', ids, old_ids)
  left = -2
end
redis.call('HSET', ids, key, stamp(found) .. packed_id)
if left < 0 then redis.call('PEXPIRE', ids, 2 * id_window) end
return answer(found, 0, found.id)
