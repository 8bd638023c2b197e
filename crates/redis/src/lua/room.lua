-- What all scripts about a room share. It comes before each of them.
local nodes, node_rooms, meta, members, names, roster, log, ids, old_ids = unpack(KEYS)
local node, run, new_epoch, channel, log_limits, log_age, room = unpack(ARGV, 1, 7)

local ENTER, LEAVE, SILENT_ENTER, SILENT_LEAVE, PUBLISH, PROFILE = 1, 2, 3, 4, 5, 11
-- A fenced node has no lease, or one that is negative: the time when the node was fenced.
local function is_fenced()
  local lease = redis.call('ZSCORE', nodes, node)
  return not lease or tonumber(lease) <= 0
end

-- The room, or nil if nobody is in it.
--
-- A server that was started again, or that took over, may lack events that nodes have delivered already. So each run
-- of a server begins an epoch of its own. The numbers of events go on, because the roster is in their order.
local function load_room()
  local fields = redis.call('HMGET', meta, 'epoch', 'run', 'event', 'seq', 'num', 'bytes')
  if not fields[1] then return nil end
  local found = {
    epoch = fields[1], event = tonumber(fields[3]), seq = tonumber(fields[4]), num = tonumber(fields[5]),
    bytes = tonumber(fields[6]) or 0,
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
  local max_events, max_bytes = struct.unpack('>I4I8', log_limits)
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

-- Stamps an event, adds it to the log and publishes it.
local function append(found, kind, member, body)
  found.event = found.event + 1
  if kind ~= SILENT_ENTER and kind ~= SILENT_LEAVE and kind ~= PROFILE then found.seq = found.seq + 1 end
  local payload = struct.pack(
    '>BBc8I8I8I8I2', 1, kind, found.epoch, found.event, found.seq, found.num, #member
  ) .. member .. body
  trim(found)
  found.bytes = found.bytes + #payload
  redis.call('HSET', meta, 'event', found.event, 'seq', found.seq, 'num', found.num, 'bytes', found.bytes)
  redis.call('XADD', log, string.format('%.0f-1', found.event), 'd', payload)
  redis.call('PEXPIRE', log, log_age)
  redis.call('PUBLISH', channel, payload)
end

local function stamp(found)
  return struct.pack('>c8I8I8I8', found.epoch, found.event, found.seq, found.num)
end
