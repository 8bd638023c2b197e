-- Where a room is: its epoch, which is empty if the room has no members, its seq, and the id up to which all messages are
-- published, which is -1 if it is not known. The rest are late messages for somebody whose latest message is `after`; -1 if
-- they are not known.
local after = tonumber(ARGV[8])
local found = load_room()
local current, first, last, late_since =
  unpack(redis.call('HMGET', batches, 'id', 'first', 'last', 'late_since'))
local published = -1
if current then published = tonumber(first) - 1 elseif last then published = tonumber(last) end
local reply = { 'OK', found and found.epoch or '', found and found.seq or 0, published }
if after and after < tonumber(late_since or 0) then
  reply[#reply + 1] = -1
elseif after then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', late, '(' .. text(after), '+inf')) do
    if tonumber(id) <= after then reply[#reply + 1] = tonumber(id) end
  end
end
return reply
