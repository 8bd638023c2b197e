-- Removes a member. A repeated call finds it gone.
--
-- `unannounced` is the id of its session if the host does not know yet that the member has entered. If the session was
-- taken over since, the node that has it is told to tell its host.
local member, how, body, generation, unannounced = unpack(ARGV, 8, 12)

local function tell_new_node()
  if unannounced == '' then return end
  local at = redis.call('HMGET', tag .. 'session:' .. unannounced, 'node', 'generation', 'room:' .. room)
  if not at[1] or at[2] == generation or at[3] ~= member then return end
  local lengths = struct.pack('>BBI2I2', 1, 14, #unannounced, #member)
  -- The number of a node comes before the number of its incarnation.
  redis.call('PUBLISH', tag .. 'number:' .. at[1]:sub(-16, -9), lengths .. unannounced .. member .. room)
end

if is_fenced() then
  tell_new_node()
  return { 'FENCED' }
end
local record = redis.call('HGET', members, member)
if not record then
  tell_new_node()
  return { 'GONE' }
end
local found = load_room()
if not found then
  redis.call('HDEL', members, member)
  clean_up()
  return { 'GONE' }
end
local parsed = parse_record(record)
-- The session was taken over since the node has said this.
local session = generation ~= '0' and session_of(member, parsed)
if session and redis.call('HGET', session, 'generation') ~= generation then
  tell_new_node()
  return { 'GONE' }
end
local is_silent = how == 'silent'
-- Nobody asks for this leave: the node has found a member that it does not know.
if how == 'unknown' then is_silent, body = parsed.is_silent, parsed.leave_body end
remove(found, member, parsed, is_silent, body)
clean_up(found)
return answer(found)
