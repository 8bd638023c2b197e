-- Replaces a member's profile, and tells the others. A repeated call tells them once more, which changes nothing.
local member, profile = unpack(ARGV, 8, 9)

if is_fenced() then return { 'FENCED' } end
local found = load_room()
local record = found and redis.call('HGET', members, member)
if not record then return { 'NOT_MEMBER' } end
redis.call('HSET', members, member, with_profile(record, profile))
append(found, PROFILE, member, profile)
return answer(found)
