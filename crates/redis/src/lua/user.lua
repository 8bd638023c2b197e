-- The sessions of a user, each with its node, and whether that node has a valid lease.
local nodes, sessions = unpack(KEYS)
local reply, all = { 'OK' }, redis.call('HGETALL', sessions)
for i = 1, #all, 2 do
  local node = all[i + 1]:sub(2)
  local lease = redis.call('ZSCORE', nodes, node)
  for _, value in ipairs({ all[i], node, lease and tonumber(lease) > 0 and 1 or 0 }) do
    reply[#reply + 1] = value
  end
end
return reply
