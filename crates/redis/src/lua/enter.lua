-- Enters a member. A repeated call gets the first one's answer.
local member, record, unique, flags, body, max_members, session = unpack(ARGV, 8, 14)
flags, max_members = tonumber(flags), tonumber(max_members)

if is_fenced() then return { 'FENCED' } end
-- The session of a member that has been resumed elsewhere has another token now.
local session_key = tag .. 'session:' .. session
if session ~= '' and redis.call('EXISTS', session_key) == 0 then return { 'NO_SESSION' } end
local found = load_room()
local known = found and redis.call('HGET', members, member)
if known then
  if session ~= '' then redis.call('HSET', session_key, 'room:' .. room, member) end
  local epoch, event, seq, num = struct.unpack('>c8I8I8I8', known)
  return { 'OK', epoch, event, seq, num }
end
if found and unique ~= '' and redis.call('HEXISTS', names, unique) == 1 then return { 'NAME_TAKEN' } end
if found and found.num >= max_members then return { 'ROOM_FULL' } end

found = found or create_room()
found.num = found.num + 1
append(found, flags % 2 == IS_SILENT and SILENT_ENTER or ENTER, member, body)
redis.call('HSET', members, member, stamp(found) .. record)
redis.call('SADD', node_rooms, room)
if session ~= '' then redis.call('HSET', session_key, 'room:' .. room, member) end
if unique ~= '' then redis.call('HSET', names, unique, member) end
if flags < IS_HIDDEN then redis.call('ZADD', roster, found.event, node .. ':' .. member) end
return answer(found)
