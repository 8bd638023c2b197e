-- Extends a node's lease; with `begin`, starts it. Answers what identifies Redis's data, or FENCED.
--
-- What identifies the data is lost only together with the data.
local nodes, data = unpack(KEYS)
local node, lease, action, new_id = unpack(ARGV)
local WEEK = 7 * 24 * 3600 * 1000
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = redis.call('ZSCORE', nodes, node)
if action ~= 'begin' and (not deadline or tonumber(deadline) <= 0) then return { 'FENCED' } end
redis.call('ZADD', nodes, now + lease, node)
local id = redis.call('GET', data) or new_id
redis.call('SET', data, id, 'PX', WEEK)
return { 'OK', id }
