-- Moves a session with its members to another node, without a leave or an enter. It gets a new token, so that the old
-- node can do nothing for it any more. A repeated call gets the same answer. `repeat` only repeats.
local nodes, old_session, new_session, new_sessions = unpack(KEYS)
local node, tag, old_token, new_token, user, mode = unpack(ARGV)

local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end

-- Moves a member, if it is there.
local function move(room, member, old_node)
  local old_members, members = tag .. 'members:' .. old_node .. ':' .. room, tag .. 'members:' .. node .. ':' .. room
  local record = redis.call('HGET', old_members, member)
  if not record then return end
  redis.call('HDEL', old_members, member)
  if redis.call('EXISTS', old_members) == 0 then redis.call('SREM', tag .. 'rooms:' .. old_node, room) end
  redis.call('HSET', members, member, with_token(record, new_token))
  redis.call('SADD', tag .. 'rooms:' .. node, room)
  local roster, old_entry = tag .. 'roster:' .. room, old_node .. ':' .. member
  local entered = redis.call('ZSCORE', roster, old_entry)
  if entered then
    redis.call('ZREM', roster, old_entry)
    redis.call('ZADD', roster, entered, node .. ':' .. member)
  end
end

-- Moves the session of the user, so that the user does not go offline meanwhile.
local function move_user(session, old_node)
  local old_users = tag .. 'users:' .. old_node
  local of_user = redis.call('HGET', old_users, session)
  if not of_user then return end
  redis.call('HDEL', old_users, session)
  redis.call('HSET', tag .. 'users:' .. node, session, of_user)
  redis.call('HSET', tag .. 'user:' .. of_user:match('^%d+ (.*)$'), session, '0' .. node)
end

local session = {}
local function read(key)
  local fields = redis.call('HGETALL', key)
  for i = 1, #fields, 2 do session[fields[i]] = fields[i + 1] end
end

if mode ~= 'repeat' and redis.call('EXISTS', old_session) == 1 then
  read(old_session)
  if session.user ~= user then return { 'OTHER_USER' } end
  local old_node = session.node
  for field, member in pairs(session) do
    local room = field:match('^room:(.*)$')
    if room then move(room, member, old_node) end
  end
  move_user(session.id, old_node)
  redis.call('RENAME', old_session, new_session)
  session.generation = redis.call('HINCRBY', new_session, 'generation', 1)
  redis.call('HSET', new_session, 'node', node, 'from', old_token)
  redis.call('SREM', tag .. 'sessions:' .. old_node, old_token)
  redis.call('SADD', new_sessions, new_token)
  local old_process = process_of(old_node)
  if old_process ~= process_of(node) then
    local taken = struct.pack('>BBI8', 1, 10, session.generation) .. session.id
    redis.call('PUBLISH', tag .. 'number:' .. old_process:sub(-8), taken)
  end
else
  read(new_session)
  if session.from ~= old_token or session.node ~= node then return { 'UNKNOWN' } end
end

local reply = { 'OK', session.id, tonumber(session.generation), tonumber(session.window) }
for field, member in pairs(session) do
  local room = field:match('^room:(.*)$')
  local record = room and redis.call('HGET', tag .. 'members:' .. node .. ':' .. room, member)
  local at = record and redis.call('HMGET', tag .. 'meta:' .. room, 'epoch', 'event', 'seq', 'num')
  if at and at[1] then
    local event, seq, num = tonumber(at[2]), tonumber(at[3]), tonumber(at[4])
    for _, value in ipairs({ room, member, record, at[1], event, seq, num }) do
      reply[#reply + 1] = value
    end
  end
end
return reply
