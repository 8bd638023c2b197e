-- Forgets a session. Answers GONE if another node has taken it over. A repeated call gets the same answer.
local node_sessions, session, closed = unpack(KEYS)
local token, id = unpack(ARGV)
if redis.call('HGET', session, 'id') ~= id then
  return { redis.call('EXISTS', closed) == 1 and 'OK' or 'GONE' }
end
redis.call('SREM', node_sessions, token)
redis.call('DEL', session)
redis.call('SET', closed, '', 'PX', 10000)
return { 'OK' }
