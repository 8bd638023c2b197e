-- Begins a batch of a room, or prolongs it. Answers the id of its first message. Only one batch is under way; one that is
-- not prolonged ends by itself.
local BATCH_TIME, WAIT_TIME = 3000, 200
local id, len, floor = ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])

if is_fenced() then return { 'FENCED' } end
local found = load_room()
if not found then return { 'NO_ROOM' } end
local now = now_ms()
local current, first, count, ends, next_id, next_until, last, since, at_run, ended = unpack(redis.call(
  'HMGET', batches, 'id', 'first', 'len', 'until', 'next', 'next_until', 'last', 'since', 'run', 'ended'
))
if ended == id then return { 'GONE' } end
if current == id then
  redis.call('HSET', batches, 'until', text(now + BATCH_TIME))
  return { 'OK', tonumber(first) }
end
-- The clock may have been set back.
local function is_soon(time, max) return tonumber(time) > now and tonumber(time) <= now + max end
-- Asks again soon, and comes before others.
local is_others_turn = next_id and next_id ~= id and is_soon(next_until, WAIT_TIME)
if current and is_soon(ends, BATCH_TIME) then
  if not is_others_turn then redis.call('HSET', batches, 'next', id, 'next_until', text(now + WAIT_TIME)) end
  return { 'BUSY' }
end
if is_others_turn then return { 'BUSY' } end
-- A server that was started again, or that took over, may lack the latest ids.
if not floor and (not last or at_run ~= run) then return { 'NEEDS_FLOOR' } end
if current then note_missing(tonumber(first), tonumber(count), {}) end
first = math.max(
  math.max(tonumber(last or 0), floor or 0, found.id) + 1, (now - YEAR_2020) * IDS_PER_MS
)
redis.call('HDEL', batches, 'next', 'next_until')
redis.call(
  'HSET', batches, 'id', id, 'first', text(first), 'len', len, 'until', text(now + BATCH_TIME),
  'last', text(first + len - 1), 'since', since or text(first), 'run', run
)
redis.call('PEXPIRE', batches, DAY)
return { 'OK', first }
