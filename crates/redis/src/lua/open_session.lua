-- Keeps a session, so that it can be resumed on any node. With `again`, only if it is there still.
local nodes, node_sessions, session = unpack(KEYS)
local node, token, id, user, window, mode, generation = unpack(ARGV)
local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end
if mode == 'again' and redis.call('EXISTS', session) == 0 then return { 'GONE' } end
redis.call('HSET', session, 'id', id, 'user', user, 'window', window, 'node', node)
redis.call('HSETNX', session, 'generation', generation)
redis.call('SADD', node_sessions, token)
return { 'OK' }
