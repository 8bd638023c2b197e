-- A page of the members that are not hidden, by the events with which they entered.
local after, max, members_prefix, members_suffix = unpack(ARGV, 8, 11)

local found = load_room()
if not found then return { 'NO_ROOM' } end
local reply = answer(found)
local page = redis.call('ZRANGEBYSCORE', roster, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, max)
for i = 1, #page, 2 do
  local owner, member = page[i]:match('^([^:]*):(.*)$')
  local record = redis.call('HGET', members_prefix .. owner .. members_suffix, member)
  if record then
    reply[#reply + 1] = tonumber(page[i + 1])
    -- Its stamp begins with the epoch.
    reply[#reply + 1] = record:sub(1, 8)
    reply[#reply + 1] = member
    reply[#reply + 1] = record:sub(parse_record(record).profile)
  end
end
return reply
