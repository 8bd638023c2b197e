-- A page of the members, in the order in which they entered.
local after, max, members_prefix, members_suffix = unpack(ARGV, 8, 11)

local found = load_room()
if not found then return { 'NO_ROOM' } end
local reply = answer(found)
local page = redis.call('ZRANGEBYSCORE', roster, '(' .. after, '+inf', 'WITHSCORES', 'LIMIT', 0, max)
for i = 1, #page, 2 do
  local owner, member = page[i]:match('^([^:]*):(.*)$')
  local record = redis.call('HGET', members_prefix .. owner .. members_suffix, member)
  if record then
    local parsed = parse_record(record)
    local epoch, event = struct.unpack('>c8I8', record)
    for _, value in ipairs({
      tonumber(page[i + 1]), epoch, event, member, parsed.is_hidden and 1 or 0, record:sub(parsed.profile),
    }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
