-- Enters a member, in place of another one of the same node if that is there. A repeated call gets the first one's
-- answer, and learns whether the member has another profile by now.
--
-- A member that is entered again may have another profile than its body says. The others learn of it in the same step:
-- otherwise, they never would if its node were lost, or its session moved, before the node could tell them.
local member, record, unique, owner, flags, body, max_members, session, generation, replaced = unpack(ARGV, 8, 17)
flags, max_members = tonumber(flags), tonumber(max_members)

if is_fenced() then return { 'FENCED' } end
-- The session of a member that has been resumed since has another generation now.
local session_key = tag .. 'session:' .. session
if session ~= '' and redis.call('HGET', session_key, 'generation') ~= generation then return { 'NO_SESSION' } end
local found = load_room()
local known = found and redis.call('HGET', members, member)
if known then
  if session ~= '' then redis.call('HSET', session_key, 'room:' .. room, member) end
  local epoch, event, seq, num, at = struct.unpack('>c8I8I8I8', known)
  local has_other_profile = profile_of(known) ~= profile_of(known:sub(1, at - 1) .. record)
  return { 'OK', epoch, event, seq, num, 1, has_other_profile and 1 or 0 }
end
local old = found and replaced ~= '' and redis.call('HGET', members, replaced)
local holder = found and unique ~= '' and holder_of(unique)
if holder and holder.member ~= replaced and (owner == '' or owner ~= holder.owner) then
  return { 'NAME_TAKEN', holder.owner == '' and holder.member or '' }
end
if found and not old and found.num + found.hidden >= max_members then return { 'ROOM_FULL' } end

found = found or create_room()
local new = parse_flags(flags)
if old then
  local parsed = parse_record(old)
  remove(found, replaced, parsed, new.is_silent, parsed.leave_body, true)
end
found.place = found.place + 1
if new.is_hidden then
  found.hidden = found.hidden + 1
  append(found, HIDDEN_ENTER, member, body)
else
  found.num = found.num + 1
  append(found, new.is_silent and SILENT_ENTER or ENTER, member, body)
end
local entered, reply = stamp(found) .. record, answer(found, 0)
redis.call('HSET', members, member, entered)
redis.call('SADD', node_rooms, room)
if session ~= '' then redis.call('HSET', session_key, 'room:' .. room, member) end
if unique ~= '' then
  holder = holder_of(unique) or { times = 0, member = member, owner = owner }
  holder.times = holder.times + 1
  hold(unique, holder)
end
redis.call('ZADD', roster, found.place, node .. ':' .. member)
if new.has_new_profile then append(found, PROFILE, member, profile_of(entered)) end
return reply
