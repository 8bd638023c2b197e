-- Gives a session of this node another token. A repeated call gets the same answer.
local nodes, old_session, new_session, node_sessions = unpack(KEYS)
local node, tag, old_token, new_token = unpack(ARGV)
local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end
if redis.call('HGET', old_session, 'node') ~= node then
  local at = redis.call('HMGET', new_session, 'node', 'from')
  return { at[1] == node and at[2] == old_token and 'OK' or 'GONE' }
end
local fields = redis.call('HGETALL', old_session)
for i = 1, #fields, 2 do
  local room, member = fields[i]:match('^room:(.*)$'), fields[i + 1]
  local members = room and tag .. 'members:' .. node .. ':' .. room
  local record = room and redis.call('HGET', members, member)
  if record then redis.call('HSET', members, member, with_token(record, new_token)) end
end
redis.call('RENAME', old_session, new_session)
redis.call('HSET', new_session, 'from', old_token)
redis.call('SREM', node_sessions, old_token)
redis.call('SADD', node_sessions, new_token)
return { 'OK' }
