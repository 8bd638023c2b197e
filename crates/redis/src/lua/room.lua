-- What all scripts about a room share. It comes before each of them.
local nodes, node_rooms, meta, members, names, roster, log, ids, old_ids = unpack(KEYS)
local node, run, new_epoch, channel, limits, log_age, room = unpack(ARGV, 1, 7)

local ENTER, LEAVE, SILENT_ENTER, SILENT_LEAVE, PUBLISH = 1, 2, 3, 4, 5
local PROFILE, HIDDEN_ENTER, HIDDEN_LEAVE = 11, 12, 13

local now
-- The server's time. It does not change while a script runs.
local function now_ms()
  if not now then
    local time = redis.call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  return now
end

local function has_frame(kind) return kind == ENTER or kind == LEAVE or kind == PUBLISH end

-- A fenced node has no lease, or one that is negative: the time when the node was fenced. A publisher is no node.
local function is_fenced()
  if node == '' then return false end
  local lease = redis.call('ZSCORE', nodes, node)
  return not lease or tonumber(lease) <= 0
end

-- The room, or nil if nobody is in it.
--
-- A server that was started again, or that took over, may lack events that nodes have delivered already. So each run
-- of a server begins an epoch of its own. The numbers of events go on, because the roster is in their order.
local function load_room()
  local fields = redis.call('HMGET', meta, 'epoch', 'run', 'event', 'seq', 'num', 'bytes', 'hidden', 'place', 'id')
  if not fields[1] then return nil end
  local found = {
    epoch = fields[1], event = tonumber(fields[3]), seq = tonumber(fields[4]), num = tonumber(fields[5]),
    bytes = tonumber(fields[6]) or 0,
    -- Hidden members, which `num` does not count, and the latest place in the roster.
    hidden = tonumber(fields[7]) or 0, place = tonumber(fields[8]) or 0,
    -- That of the latest message.
    id = tonumber(fields[9]) or 0,
  }
  if fields[2] ~= run then
    found.epoch, found.seq, found.bytes = new_epoch, 0, 0
    redis.call('HSET', meta, 'epoch', new_epoch, 'run', run, 'seq', 0, 'bytes', 0)
    redis.call('DEL', log)
  end
  return found
end

local function answer(found, ...)
  return { 'OK', found.epoch, found.event, found.seq, found.num, ... }
end

-- Removes the oldest events until the log is an eighth below its limits, so that this is rarely done.
local function trim(found)
  local max_events, max_bytes = struct.unpack('>I4I8', limits)
  local events = redis.call('XLEN', log)
  -- The log may have expired before.
  if events == 0 then found.bytes = 0 end
  if events <= max_events and found.bytes <= max_bytes then return end
  local function is_too_long() return events > max_events * 7 / 8 or found.bytes > max_bytes * 7 / 8 end
  while is_too_long() do
    local last_removed
    for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', 16)) do
      if not is_too_long() then break end
      last_removed, events, found.bytes = entry[1], events - 1, found.bytes - #entry[2][2]
    end
    if not last_removed then break end
    -- Ids are the number of an event and `-1`, so this keeps what follows.
    redis.call('XTRIM', log, 'MINID', last_removed:match('^%d+') .. '-2')
  end
end

-- Stamps an event, adds it to the log and publishes it. Its flags say whether it ends the room (1), or whether it is the
-- leave of a member whose successor enters next (2).
local function append(found, kind, member, body, is_replaced)
  found.event = found.event + 1
  if has_frame(kind) then found.seq = found.seq + 1 end
  local flags = is_replaced and 2 or found.num + found.hidden == 0 and 1 or 0
  local payload = struct.pack(
    '>BBBc8I8I8I8I2', 1, kind, flags, found.epoch, found.event, found.seq, found.num, #member
  ) .. member .. body
  trim(found)
  found.bytes = found.bytes + #payload
  if kind == PUBLISH then
    redis.call(
      'HSET', meta, 'event', found.event, 'seq', found.seq, 'bytes', found.bytes,
      'id', string.format('%.0f', found.id)
    )
  else
    redis.call(
      'HSET', meta, 'event', found.event, 'seq', found.seq, 'num', found.num, 'bytes', found.bytes,
      'hidden', found.hidden, 'place', found.place
    )
  end
  redis.call('XADD', log, string.format('%.0f-1', found.event), 'd', payload, 't', string.format('%.0f', now_ms()))
  redis.call('PEXPIRE', log, log_age)
  redis.call('PUBLISH', channel, payload)
end

local function stamp(found)
  return struct.pack('>c8I8I8I8', found.epoch, found.event, found.seq, found.num)
end

-- The stamp and the id of the message that was published under a key.
local function receipt_of(key) return redis.call('HGET', ids, key) or redis.call('HGET', old_ids, key) end

-- Remembers the stamp and the id of a message. Each key is kept for the window at least: it is in `ids` for up to one window,
-- and in `old_ids` for another.
local function remember(key, receipt)
  local _, _, id_window, max_ids = struct.unpack('>I4I8I8I4', limits)
  local left = redis.call('PTTL', ids)
  if left >= 0 and (left < id_window or redis.call('HLEN', ids) >= max_ids) then
    redis.call('RENAME', ids, old_ids)
    left = -2
  end
  redis.call('HSET', ids, key, receipt)
  if left < 0 then redis.call('PEXPIRE', ids, 2 * id_window) end
end
