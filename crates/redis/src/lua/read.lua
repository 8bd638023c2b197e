-- Where the room is, and what its log has from an event on, if its epoch is still the expected one.
local epoch, first, max = unpack(ARGV, 8, 10)

local found = load_room()
if not found then return { 'NO_ROOM' } end
local reply = answer(found)
if found.epoch == epoch and tonumber(first) <= found.event then
  for _, entry in ipairs(redis.call('XRANGE', log, first, '+', 'COUNT', max)) do
    reply[#reply + 1] = entry[2][2]
  end
end
return reply
