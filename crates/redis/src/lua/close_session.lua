-- Forgets a session. Answers GONE if it is not this node's any more. A repeated call gets the same answer.
local name, _, id, generation, closed_for, may_be_lost = unpack(ARGV)
local known = session_fields(id)
if not known.node then
  local closer = redis.call('GET', tag .. 'closed:' .. id)
  return { (closer and closer == name or not closer and may_be_lost == '1') and 'OK' or 'GONE' }
end
if known.generation ~= generation or name_of(known.node) ~= name then return { 'GONE' } end
forget_session(id, known, name, closed_for)
return { 'OK' }
