-- Replaces a member's profile, and publishes a body that tells the others.
local member, profile, body = unpack(ARGV, 8, 10)

if is_fenced() then return { 'FENCED' } end
local found = load_room()
local record = found and redis.call('HGET', members, member)
if not record then return { 'NOT_MEMBER' } end
local unchanged = record:sub(1, parse_record(record).profile - 1)
local replaced = unchanged .. profile
-- A repeated call finds the profile in place.
if replaced ~= record then
  redis.call('HSET', members, member, replaced)
  append(found, PROFILE, member, body)
end
return answer(found)
