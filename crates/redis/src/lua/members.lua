-- What the scripts share that enter or remove members. It comes after `room.lua`.

local IS_SILENT, IS_HIDDEN = 1, 2
-- What the names of all keys and channels begin with.
local tag = channel:sub(1, #channel - #room - #'ch:')

-- Begins a room. Nothing of an earlier one with this name may remain, apart from the ids of its messages: a client may
-- still repeat one.
local function create_room()
  redis.call('DEL', members, names, roster, log)
  redis.call('HSET', meta, 'epoch', new_epoch, 'run', run)
  return { epoch = new_epoch, event = 0, seq = 0, num = 0, bytes = 0 }
end

-- The parts of a member's record, and where the profile begins.
local function parse_record(record)
  local _, _, _, _, _, flags, keep, session, unique, leave_body, _, profile =
    struct.unpack('>c8I8I8I8BBI4I2c0I2c0I4c0I4c0', record)
  return {
    is_silent = flags % 2 == IS_SILENT, is_hidden = flags >= IS_HIDDEN, keep = keep,
    unique = unique, session = session, leave_body = leave_body, profile = profile,
  }
end

-- Removes a member of `node`, and publishes that.
local function remove(found, member, parsed, kind, body)
  redis.call('HDEL', members, member)
  redis.call('ZREM', roster, node .. ':' .. member)
  if parsed.unique ~= '' and redis.call('HGET', names, parsed.unique) == member then
    redis.call('HDEL', names, parsed.unique)
  end
  if parsed.session ~= '' then redis.call('HDEL', tag .. 'session:' .. parsed.session, 'room:' .. room) end
  found.num = found.num - 1
  append(found, kind, member, body)
end

-- Deletes what is empty. The ids of messages expire.
local function clean_up(found)
  if redis.call('EXISTS', members) == 0 then redis.call('SREM', node_rooms, room) end
  if found and found.num <= 0 then
    redis.call('DEL', meta, members, names, roster, log)
  end
end
