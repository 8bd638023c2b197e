-- Publishes a body. A message whose id is known is not published again: the answer is the first one's.
local member, id, body = unpack(ARGV, 8, 10)
local _, _, id_window, max_ids = struct.unpack('>I4I8I8I4', limits)

if is_fenced() then return { 'FENCED' } end
local known = redis.call('HGET', ids, id) or redis.call('HGET', old_ids, id)
if known then
  local epoch, event, seq, num = struct.unpack('>c8I8I8I8', known)
  return { 'OK', epoch, event, seq, num, 1 }
end
local found = load_room()
if not found then return { 'NO_ROOM' } end
if member ~= '' and redis.call('HEXISTS', members, member) == 0 then return { 'NOT_MEMBER' } end

append(found, PUBLISH, member, body)
-- Each id is kept for the window at least: it is in `ids` for up to one window, and in `old_ids` for another.
local left = redis.call('PTTL', ids)
if left >= 0 and (left < id_window or redis.call('HLEN', ids) >= max_ids) then
  redis.call('RENAME', ids, old_ids)
  left = -2
end
redis.call('HSET', ids, id, stamp(found))
if left < 0 then redis.call('PEXPIRE', ids, 2 * id_window) end
return answer(found, 0)
