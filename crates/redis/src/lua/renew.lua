-- Extends a node's lease; with `begin`, starts it. Answers 0 if the node has been fenced.
local nodes = KEYS[1]
local node, lease, action = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = redis.call('ZSCORE', nodes, node)
if action ~= 'begin' and (not deadline or tonumber(deadline) <= 0) then return 0 end
redis.call('ZADD', nodes, now + lease, node)
return 1
