-- Forgets a fenced node that has no members, sessions or users any more. Its sessions end when their windows are over,
-- but not before their members have left: if the node came back in between, nobody would report these members as gone.
-- `fence` fences the node first.
--
-- To look at thousands of sessions takes the server a while, and all nodes look. So `kept` says how long after the fence it
-- makes sense again.
local SHORTEST, DAY = 500, 24 * 3600 * 1000
local nodes, node_rooms, node_sessions, node_users = unpack(KEYS)
local node, _, action, closed_for = unpack(ARGV)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(redis.call('ZSCORE', nodes, node) or -now)
if lease > 0 then
  if action == 'forget' then return end
  lease = -now
  redis.call('ZADD', nodes, lease, node)
end
local function has_members(session)
  for room, member in pairs(rooms_of(session)) do
    if redis.call('HEXISTS', tag .. 'members:' .. node .. ':' .. room, member) == 1 then return true end
  end
  return false
end

local kept, fenced_for = tag .. 'kept:' .. node, now + lease
if fenced_for >= tonumber(redis.call('GET', kept) or 0) then
  local rest
  for _, id in ipairs(redis.call('SMEMBERS', node_sessions)) do
    local session = session_fields(id)
    local left = tonumber(session.window or 0) - fenced_for
    if session.node ~= node then
      redis.call('SREM', node_sessions, id)
    elseif left <= 0 and not has_members(session) then
      -- Should the node come back, it has not closed it.
      forget_session(id, session, '', closed_for)
    else
      rest = math.min(rest or DAY, math.max(left, SHORTEST))
    end
  end
  if rest then redis.call('SET', kept, string.format('%.0f', fenced_for + rest), 'PX', DAY) end
end
if redis.call('EXISTS', node_rooms, node_sessions, node_users) == 0 then
  redis.call('ZREM', nodes, node)
  redis.call('DEL', kept)
end
