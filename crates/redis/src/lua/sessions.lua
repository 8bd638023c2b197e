-- What the scripts about sessions share. A session has one entry, under its id, whatever its token is and wherever it
-- is.

-- What the names of all keys begin with.
local tag = ARGV[2]

-- The name and the number of an incarnation's process, which gets another incarnation after a fence.
local function process_of(incarnation) return incarnation:sub(1, -9) end

-- The fields of a session, by their names; empty if there is none.
local function session_fields(id)
  local fields, all = {}, redis.call('HGETALL', tag .. 'session:' .. id)
  for i = 1, #all, 2 do fields[all[i]] = all[i + 1] end
  return fields
end

-- The rooms of a session, each with the member there.
local function rooms_of(fields)
  local rooms = {}
  for field, member in pairs(fields) do
    local room = field:match('^room:(.*)$')
    if room then rooms[room] = member end
  end
  return rooms
end

local function move_member(room, member, old_node, node)
  local old_members, members = tag .. 'members:' .. old_node .. ':' .. room, tag .. 'members:' .. node .. ':' .. room
  local record = redis.call('HGET', old_members, member)
  if not record then return end
  redis.call('HDEL', old_members, member)
  if redis.call('EXISTS', old_members) == 0 then redis.call('SREM', tag .. 'rooms:' .. old_node, room) end
  redis.call('HSET', members, member, record)
  redis.call('SADD', tag .. 'rooms:' .. node, room)
  local roster, old_entry = tag .. 'roster:' .. room, old_node .. ':' .. member
  local entered = redis.call('ZSCORE', roster, old_entry)
  if entered then
    redis.call('ZREM', roster, old_entry)
    redis.call('ZADD', roster, entered, node .. ':' .. member)
  end
end

-- Moves the session of the user, so that the user does not go offline meanwhile.
local function move_user(id, old_node, node)
  local old_users = tag .. 'users:' .. old_node
  local of_user = redis.call('HGET', old_users, id)
  if not of_user then return end
  redis.call('HDEL', old_users, id)
  redis.call('HSET', tag .. 'users:' .. node, id, of_user)
  redis.call('HSET', tag .. 'user:' .. of_user:match('^%d+ (.*)$'), id, '0' .. node)
end

-- Moves a session to this incarnation, with its members.
local function move_session(id, fields, node)
  if fields.node == node then return end
  for room, member in pairs(rooms_of(fields)) do move_member(room, member, fields.node, node) end
  move_user(id, fields.node, node)
  redis.call('SREM', tag .. 'sessions:' .. fields.node, id)
  redis.call('SADD', tag .. 'sessions:' .. node, id)
  redis.call('HSET', tag .. 'session:' .. id, 'node', node)
end

-- Tells the node that had a session.
local function tell_taken(id, generation, old_node, node)
  local old_process = process_of(old_node)
  if old_process == process_of(node) then return end
  redis.call('PUBLISH', tag .. 'number:' .. old_process:sub(-8), struct.pack('>BBI8', 1, 10, generation) .. id)
end

-- Another session may have got the token since.
local function remove_token(id, token)
  if token and redis.call('GET', tag .. 'token:' .. token) == id then redis.call('DEL', tag .. 'token:' .. token) end
end

local function set_token(id, old, new)
  if old ~= new then remove_token(id, old) end
  redis.call('SET', tag .. 'token:' .. new, id)
  redis.call('HSET', tag .. 'session:' .. id, 'token', new)
end

-- Forgets a session. The note says for some time who has closed it.
local function forget_session(id, fields, closer, for_ms)
  redis.call('DEL', tag .. 'session:' .. id)
  remove_token(id, fields.token)
  redis.call('SREM', tag .. 'sessions:' .. fields.node, id)
  redis.call('SET', tag .. 'closed:' .. id, closer, 'PX', for_ms)
end
