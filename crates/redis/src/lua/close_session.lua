-- Forgets a session.
local node_sessions, session = unpack(KEYS)
redis.call('SREM', node_sessions, ARGV[1])
redis.call('DEL', session)
return { 'OK' }
