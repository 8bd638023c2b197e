-- Enters a member. A repeated call gets the first one's answer.
local member, record, unique, flags, body, max_members = unpack(ARGV, 8, 13)
flags, max_members = tonumber(flags), tonumber(max_members)

if is_fenced() then return { 'FENCED' } end
local found = load_room()
local known = found and redis.call('HGET', members, member)
if known then
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
if unique ~= '' then redis.call('HSET', names, unique, member) end
if flags < IS_HIDDEN then redis.call('ZADD', roster, found.event, node .. ':' .. member) end
return answer(found)
