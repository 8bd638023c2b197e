-- What the scripts share about batches: messages that a node has stored before it publishes them. It comes after `room.lua`.
--
-- The hash `batches` outlasts its room: `id`, `first`, `len` and `until` of the batch that is under way, `next` and
-- `next_until` of one that waits, `ended` and `answer` of the latest one that has ended, the latest id that was given (`last`)
-- and in which run of the server (`run`). What has become of messages with ids from `since` on is known: those in the sorted
-- set `missing` were not published, although the node's store may have them. The sorted set `late` has messages that were
-- published after others with higher ids, which are below the score. Below `late_since`, it may lack some.
local tag = channel:sub(1, #channel - #room - #'ch:')
local batches, missing, late = tag .. 'batches:' .. room, tag .. 'missing:' .. room, tag .. 'late:' .. room
local YEAR_2020, IDS_PER_MS = 1577836800000, 4096
local DAY, MAX_MISSING, MAX_LATE = 24 * 3600 * 1000, 10000, 1000

local function text(number) return string.format('%.0f', number) end

-- Notes messages from an id on that were not published, except those whose ids are keys of a table.
local function note_missing(first, len, except)
  for id = first, first + len - 1 do
    if not except[id] then redis.call('ZADD', missing, text(id), text(id)) end
  end
  local excess = redis.call('ZCARD', missing) - MAX_MISSING
  if excess > 0 then
    local forgotten = redis.call('ZRANGE', missing, 0, excess - 1)
    redis.call('ZREMRANGEBYRANK', missing, 0, excess - 1)
    redis.call('HSET', batches, 'since', text(tonumber(forgotten[#forgotten]) + 1))
  end
  redis.call('PEXPIRE', missing, DAY)
end

-- Notes that a message is published although members have got others with ids below `until` already.
local function note_late(id, until_id)
  redis.call('ZADD', late, text(until_id), text(id))
  local excess = redis.call('ZCARD', late) - MAX_LATE
  if excess > 0 then
    local forgotten = redis.call('ZRANGE', late, excess - 1, excess - 1, 'WITHSCORES')
    redis.call('ZREMRANGEBYRANK', late, 0, excess - 1)
    redis.call('HSET', batches, 'late_since', text(tonumber(forgotten[2])))
  end
  redis.call('PEXPIRE', late, DAY)
end
