-- Notes the user whose members may share a member's name.
local member, owner = unpack(ARGV, 8, 9)

if is_fenced() then return { 'FENCED' } end
local record = redis.call('HGET', members, member)
if not record then return { 'GONE' } end
local parsed = parse_record(record)
local before, after = record:sub(1, parsed.owner_at - 1), record:sub(parsed.owner_at + 2 + #parsed.owner)
redis.call('HSET', members, member, before .. struct.pack('>I2', #owner) .. owner .. after)
local holder = parsed.unique ~= '' and holder_of(parsed.unique)
if holder and holder.member == member then
  holder.owner = owner
  hold(parsed.unique, holder)
end
return { 'OK' }
