-- Replaces a member's profile, and publishes a body that tells the others.
local member, profile, body = unpack(ARGV, 8, 10)

if is_fenced() then return { 'FENCED' } end
local found = load_room()
local record = found and redis.call('HGET', members, member)
if not record then return { 'NOT_MEMBER' } end
local unchanged = record:sub(1, parse_record(record).profile - 1)
-- A repeated call publishes it once more, because other nodes may know an older profile even if this one is in place:
-- a member that was entered again has the body of its first enter.
redis.call('HSET', members, member, unchanged .. profile)
append(found, PROFILE, member, body)
return answer(found)
