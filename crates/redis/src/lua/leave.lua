-- Removes a member. A repeated call finds it gone.
local member, how, body, generation = unpack(ARGV, 8, 11)

if is_fenced() then return { 'FENCED' } end
local record = redis.call('HGET', members, member)
if not record then return { 'GONE' } end
local found = load_room()
if not found then
  redis.call('HDEL', members, member)
  clean_up()
  return { 'GONE' }
end
local parsed = parse_record(record)
-- The session was taken over since the node has said this.
local session = generation ~= '0' and session_of(member, parsed)
if session and redis.call('HGET', session, 'generation') ~= generation then return { 'GONE' } end
local is_silent = how == 'silent'
-- Nobody asks for this leave: the node has found a member that it does not know.
if how == 'unknown' then is_silent, body = parsed.is_silent, parsed.leave_body end
remove(found, member, parsed, is_silent, body)
clean_up(found)
return answer(found)
