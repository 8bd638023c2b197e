-- Forgets a fenced node that has no members any more. With `fence`, fences it before. Answers 1 once it is gone.
local nodes, node_rooms = unpack(KEYS)
local node, action = unpack(ARGV)
local lease = redis.call('ZSCORE', nodes, node)
if lease and tonumber(lease) > 0 then
  if action ~= 'fence' then return 0 end
  local time = redis.call('TIME')
  redis.call('ZADD', nodes, -(time[1] * 1000 + math.floor(time[2] / 1000)), node)
end
if redis.call('EXISTS', node_rooms) == 1 then return 0 end
redis.call('ZREM', nodes, node)
return 1
