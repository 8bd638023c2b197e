-- Begins a session of a user. Answers whether it is the user's first one on any node, and whether it was there already.
-- A repeated call gets the first one's answer.
local nodes, node_users, sessions, ended = unpack(KEYS)
local node, tag, session, user, window = unpack(ARGV)

local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end
-- The name and the number of an incarnation's process, which gets another incarnation after a fence.
local function process_of(incarnation) return incarnation:sub(1, -9) end
local known = redis.call('HGET', sessions, session)
local is_first = '0'
if known then
  local old_node = known:sub(2)
  -- Another node has resumed it.
  if process_of(old_node) ~= process_of(node) then return { 'OK', 0, 1 } end
  is_first = known:sub(1, 1)
  redis.call('HDEL', tag .. 'users:' .. old_node, session)
elseif redis.call('EXISTS', sessions) == 0 then
  is_first = '1'
end
redis.call('DEL', ended)
redis.call('HSET', sessions, session, is_first .. node)
redis.call('HSET', node_users, session, window .. ' ' .. user)
return { 'OK', tonumber(is_first), known and 1 or 0 }
