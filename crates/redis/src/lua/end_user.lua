-- Ends a session of a user. Answers whether it was the user's last one on any node. A repeated call gets the first one's
-- answer. With `undo`, it ends a session that has come back after its end. This is a new call, not a repetition of the
-- first one.
local sessions, ended = unpack(KEYS)
local process, tag, session, mode = unpack(ARGV)
local MINUTE = 60 * 1000

local known = redis.call('HGET', sessions, session)
if not known then
  local ender = redis.call('GET', ended)
  if mode == 'undo' then return { 'OK', ender == process .. ' undo' and 1 or 0 } end
  if ender then return { 'OK', ender == process and 1 or 0 } end
  -- The server may have lost its data since the session began.
  return { 'OK', mode == 'lost' and 1 - redis.call('EXISTS', sessions) or 0 }
end
local node = known:sub(2)
-- Another node has resumed it.
if node:sub(1, -9) ~= process then return { 'OK', 0 } end
redis.call('HDEL', sessions, session)
redis.call('HDEL', tag .. 'users:' .. node, session)
if redis.call('EXISTS', sessions) == 1 then return { 'OK', 0 } end
redis.call('SET', ended, mode == 'undo' and process .. ' undo' or process, 'PX', MINUTE)
return { 'OK', 1 }
