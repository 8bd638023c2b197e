-- What all scripts about a room share. It comes before each of them.
local nodes, node_rooms, meta, members, names, roster, log, ids, old_ids = unpack(KEYS)
local node, run, new_epoch, channel, log_length, log_age, room = unpack(ARGV, 1, 7)

local ENTER, LEAVE, SILENT_ENTER, SILENT_LEAVE, PUBLISH = 1, 2, 3, 4, 5
-- A fenced node has no lease, or one that is negative: the time when the node was fenced.
local function is_fenced()
  local lease = redis.call('ZSCORE', nodes, node)
  return not lease or tonumber(lease) <= 0
end

-- The room, or nil if nobody is in it.
--
-- A server that was started again, or that took over, may lack events that nodes have delivered already. So each run
-- of a server begins an epoch of its own.
local function load_room()
  local fields = redis.call('HMGET', meta, 'epoch', 'run', 'event', 'seq', 'num')
  if not fields[1] then return nil end
  local found = {
    epoch = fields[1], event = tonumber(fields[3]), seq = tonumber(fields[4]), num = tonumber(fields[5]),
  }
  if fields[2] ~= run then
    found.epoch, found.event, found.seq = new_epoch, 0, 0
    redis.call('HSET', meta, 'epoch', new_epoch, 'run', run, 'event', 0, 'seq', 0)
    redis.call('DEL', log)
  end
  return found
end

local function answer(found, ...)
  return { 'OK', found.epoch, found.event, found.seq, found.num, ... }
end

-- Stamps an event, adds it to the log and publishes it.
local function append(found, kind, member, body)
  found.event = found.event + 1
  if kind ~= SILENT_ENTER and kind ~= SILENT_LEAVE then found.seq = found.seq + 1 end
  redis.call('HSET', meta, 'event', found.event, 'seq', found.seq, 'num', found.num)
  local payload = struct.pack(
    '>BBc8I8I8I8I2', 1, kind, found.epoch, found.event, found.seq, found.num, #member
  ) .. member .. body
  redis.call('XADD', log, 'MAXLEN', '~', log_length, string.format('%.0f-1', found.event), 'd', payload)
  redis.call('PEXPIRE', log, log_age)
  redis.call('PUBLISH', channel, payload)
end

local function stamp(found)
  return struct.pack('>c8I8I8I8', found.epoch, found.event, found.seq, found.num)
end
