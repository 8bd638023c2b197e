-- Ends a session of a user. Answers whether it was the user's last one on any node. A repeated call gets the first one's
-- answer.
local sessions, ended = unpack(KEYS)
local name, tag, session, may_be_lost = unpack(ARGV)
local MINUTE = 60 * 1000

local known = redis.call('HGET', sessions, session)
if not known then
  local ender = redis.call('GET', ended)
  if ender then return { 'OK', ender == name and 1 or 0 } end
  -- The server may have lost its data since the session began.
  return { 'OK', may_be_lost == '1' and 1 - redis.call('EXISTS', sessions) or 0 }
end
local node = known:sub(2)
-- Another node has resumed it.
if node:match('^(.*)@') ~= name then return { 'OK', 0 } end
redis.call('HDEL', sessions, session)
redis.call('HDEL', tag .. 'users:' .. node, session)
if redis.call('EXISTS', sessions) == 1 then return { 'OK', 0 } end
redis.call('SET', ended, name, 'PX', MINUTE)
return { 'OK', 1 }
