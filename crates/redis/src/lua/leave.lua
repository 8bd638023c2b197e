-- Removes a member. A repeated call finds it gone.
local member, how, body = unpack(ARGV, 8, 10)

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
local is_silent = how == 'silent'
-- Nobody asks for this leave: the node has found a member that it does not know.
if how == 'unknown' then is_silent, body = parsed.is_silent, parsed.leave_body end
remove(found, member, parsed, is_silent, body)
clean_up(found)
return answer(found)
