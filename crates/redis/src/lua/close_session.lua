-- Forgets a session. Answers GONE if it is not this node's any more. A repeated call gets the same answer.
local process, _, id, generation, closed_for, may_be_lost = unpack(ARGV)
local known = session_fields(id)
if not known.node then
  local closer = redis.call('GET', tag .. 'closed:' .. id)
  return { (closer and closer == process or not closer and may_be_lost == '1') and 'OK' or 'GONE' }
end
if known.generation ~= generation or process_of(known.node) ~= process then return { 'GONE' } end
forget_session(id, known, process, closed_for)
return { 'OK' }
