-- Ends sessions of users of a fenced node. `own` is as in `reap.lua`. Answers for how long the rest is kept, in ms, and the users that have no
-- session any more. It is 0 if there are more to end.
local nodes, node_users = unpack(KEYS)
local node, tag, batch, which, call = unpack(ARGV)
local DAY = 24 * 3600 * 1000
batch, call = tonumber(batch), tag .. 'reaped:' .. call

-- A repeated call.
local earlier = redis.call('GET', call)
if earlier then return cmsgpack.unpack(earlier) end

local lease = tonumber(redis.call('ZSCORE', nodes, node) or '0')
if lease > 0 then return { 'ALIVE' } end
local time = redis.call('TIME')
local fenced_for = time[1] * 1000 + math.floor(time[2] / 1000) + lease
local rest_kept, cursor, reply = DAY, '0', { 'OK' }
repeat
  local page = redis.call('HSCAN', node_users, cursor, 'COUNT', batch)
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local session = page[2][i]
    local window, user = page[2][i + 1]:match('^(%d+) (.*)$')
    local is_moved = which == 'own' and redis.call('HGET', tag .. 'session:' .. session, 'node') ~= node
    if is_moved or fenced_for >= tonumber(window) then
      if batch == 0 then
        rest_kept = 0
        break
      end
      batch = batch - 1
      redis.call('HDEL', node_users, session)
      local sessions = tag .. 'user:' .. user
      local known = redis.call('HGET', sessions, session)
      -- Unless another node has resumed it.
      if known and known:sub(2) == node then
        redis.call('HDEL', sessions, session)
        if redis.call('EXISTS', sessions) == 0 then reply[#reply + 1] = user end
      end
    else
      rest_kept = math.min(rest_kept, window - fenced_for)
    end
  end
until cursor == '0' or rest_kept == 0
table.insert(reply, 2, rest_kept)
if #reply > 2 then redis.call('SET', call, cmsgpack.pack(reply), 'PX', 60000) end
return reply
