-- The reaper's beat: fences the nodes whose lease has run out, and answers all fenced nodes.
local nodes, beat = unpack(KEYS)
local lease = tonumber(ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last_beat = tonumber(redis.call('GET', beat) or '0')
redis.call('SET', beat, string.format('%.0f', now), 'PX', 20 * lease)
if now - last_beat > lease / 2 then
  -- Without beats nobody could renew: the server was away. Nobody is to blame.
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, 1, now + lease)) do
    redis.call('ZADD', nodes, now + lease, node)
  end
else
  for _, node in ipairs(redis.call('ZRANGEBYSCORE', nodes, 1, now)) do
    redis.call('ZADD', nodes, -now, node)
  end
end
return redis.call('ZRANGEBYSCORE', nodes, '-inf', 0)
