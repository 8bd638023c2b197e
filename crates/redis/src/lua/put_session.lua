-- Has a session be in Redis as its node has it. A repeated call changes nothing.
--
-- Answers TAKEN, with the session's generation, if another node has taken the session over since, GONE if it has ended,
-- and OLDER if this node itself has taken it over since. With `may_be_lost`, the session may be missing in Redis: it is
-- new, or the server may have lost it. If the server has forgotten that this node has taken the session over, it
-- becomes this node's again. Without a token, the session keeps the token that it has in Redis, if any: its members may
-- have yet to enter again.
local nodes = KEYS[1]
local node, _, id, token, user, window, generation, may_be_lost = unpack(ARGV)
local lease = redis.call('ZSCORE', nodes, node)
if not lease or tonumber(lease) <= 0 then return { 'FENCED' } end
local known = session_fields(id)
if known.node then
  local other = tonumber(known.generation)
  local is_own = process_of(known.node) == process_of(node)
  if other > tonumber(generation) then return { is_own and 'OLDER' or 'TAKEN', other } end
  if other == tonumber(generation) and not is_own then return { 'GONE' } end
  move_session(id, known, node)
  tell_taken(id, generation, known.node, node)
elseif may_be_lost == '0' or redis.call('EXISTS', tag .. 'closed:' .. id) == 1 then
  return { 'GONE' }
end
redis.call('HSET', tag .. 'session:' .. id, 'node', node, 'user', user, 'window', window, 'generation', generation)
redis.call('SADD', tag .. 'sessions:' .. node, id)
if token ~= '' then set_token(id, known.token, token) end
return { 'OK' }
