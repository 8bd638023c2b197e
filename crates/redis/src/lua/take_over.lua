-- Moves a session with its members to another node, without a leave or an enter. Its generation is higher from now on, so
-- that the old node can do nothing for it any more. A repeated call gets the same answer. `repeat` only repeats.
local nodes = KEYS[1]
local node, _, old_token, new_token, user, mode = unpack(ARGV)

local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end

local id = mode ~= 'repeat' and redis.call('GET', tag .. 'token:' .. old_token)
local session = id and session_fields(id) or {}
if session.node then
  if session.user ~= user then return { 'OTHER_USER' } end
  move_session(id, session, node)
  set_token(id, old_token, new_token)
  session.generation = redis.call('HINCRBY', tag .. 'session:' .. id, 'generation', 1)
  redis.call('HSET', tag .. 'session:' .. id, 'from', old_token)
  tell_taken(id, session.generation, session.node, node)
else
  id = redis.call('GET', tag .. 'token:' .. new_token)
  session = id and session_fields(id) or {}
  if session.from ~= old_token or process_of(session.node) ~= process_of(node) then return { 'UNKNOWN' } end
  move_session(id, session, node)
end

local reply = { 'OK', id, tonumber(session.generation), tonumber(session.window) }
for room, member in pairs(rooms_of(session)) do
  local record = redis.call('HGET', tag .. 'members:' .. node .. ':' .. room, member)
  local at = record and redis.call('HMGET', tag .. 'meta:' .. room, 'epoch', 'event', 'seq', 'num')
  if at and at[1] then
    local event, seq, num = tonumber(at[2]), tonumber(at[3]), tonumber(at[4])
    for _, value in ipairs({ room, member, record, at[1], event, seq, num }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
