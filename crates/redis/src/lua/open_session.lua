-- Keeps a session, so that it can be resumed on any node. With `again`, only if it is there still. With `lost`, after the
-- data was lost: if two nodes take it for theirs, it is that one's which has taken it over from the other. Answers CLAIMED
-- and the other one's token if that was faster.
local nodes, node_sessions, session, claim = unpack(KEYS)
local node, tag, token, id, user, window, mode, generation = unpack(ARGV)
local HOUR = 3600 * 1000
local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end
if mode == 'again' and redis.call('EXISTS', session) == 0 then return { 'GONE' } end
if mode == 'lost' then
  local other = redis.call('HMGET', claim, 'generation', 'token')
  local other_generation = tonumber(other[1] or generation)
  if other_generation > tonumber(generation) then return { 'GONE' } end
  if other_generation < tonumber(generation)
    and redis.call('HGET', tag .. 'session:' .. other[2], 'id') == id and other[2] ~= token then
    return { 'CLAIMED', other[2] }
  end
  redis.call('HSET', claim, 'generation', generation, 'token', token)
  redis.call('PEXPIRE', claim, HOUR)
  redis.call('HSET', session, 'generation', generation)
end
redis.call('HSET', session, 'id', id, 'user', user, 'window', window, 'node', node)
redis.call('HSETNX', session, 'generation', generation)
redis.call('SADD', node_sessions, token)
return { 'OK' }
