-- What the scripts share that enter or remove members. It comes after `room.lua`.

local IS_SILENT, IS_HIDDEN, HAS_NEW_PROFILE = 1, 2, 4
-- What the names of all keys and channels begin with.
local tag = channel:sub(1, #channel - #room - #'ch:')

-- Begins a room. Nothing of an earlier one with this name may remain, apart from the ids of its messages: a client may
-- still repeat one.
local function create_room()
  redis.call('DEL', members, names, roster, log)
  -- The limits are for the function that programs in other languages call.
  redis.call('HSET', meta, 'epoch', new_epoch, 'run', run, 'limits', limits, 'age', log_age)
  return { epoch = new_epoch, event = 0, seq = 0, num = 0, bytes = 0, hidden = 0, place = 0, id = 0 }
end

local function parse_flags(flags)
  local function has(flag) return flags % (2 * flag) >= flag end
  return { is_silent = has(IS_SILENT), is_hidden = has(IS_HIDDEN), has_new_profile = has(HAS_NEW_PROFILE) }
end

-- The parts of a member's record, and where its owner and its profile begin.
local function parse_record(record)
  local _, _, _, _, _, flags, keep, session, unique, owner, leave_body, _, profile =
    struct.unpack('>c8I8I8I8BBI4I2c0I2c0I2c0I4c0I4c0', record)
  local parsed = parse_flags(flags)
  parsed.flags = flags
  parsed.keep, parsed.session, parsed.unique, parsed.owner = keep, session, unique, owner
  parsed.leave_body, parsed.profile = leave_body, profile
  parsed.owner_at = 39 + 2 + #session + 2 + #unique
  return parsed
end

local function profile_of(record) return record:sub(parse_record(record).profile) end

-- A member's record with another profile, and a flag that says so.
local function with_profile(record, profile)
  local parsed = parse_record(record)
  local flags = parsed.has_new_profile and parsed.flags or parsed.flags + HAS_NEW_PROFILE
  return record:sub(1, 33) .. string.char(flags) .. record:sub(35, parsed.profile - 1) .. profile
end

-- The holder of a name: the member that has taken it first, the user whose members may share it, and how many have it.
local function holder_of(unique)
  local value = redis.call('HGET', names, unique)
  if not value then return nil end
  local times, member, owner_at = struct.unpack('>I4I2c0', value)
  return { times = times, member = member, owner = value:sub(owner_at) }
end

local function hold(unique, holder)
  local value = struct.pack('>I4I2', holder.times, #holder.member) .. holder.member .. holder.owner
  redis.call('HSET', names, unique, value)
end

local function release(unique)
  local holder = holder_of(unique)
  if not holder then return end
  holder.times = holder.times - 1
  if holder.times > 0 then hold(unique, holder) else redis.call('HDEL', names, unique) end
end

-- The key of a member's session, unless that is closed or has another member in the room.
local function session_of(member, parsed)
  local session = tag .. 'session:' .. parsed.session
  local is_there = parsed.session ~= '' and redis.call('HGET', session, 'room:' .. room) == member
  return is_there and session
end

-- Removes a member of `node`, and publishes that. If it is replaced, its successor must enter next.
local function remove(found, member, parsed, is_silent, body, is_replaced)
  redis.call('HDEL', members, member)
  redis.call('ZREM', roster, node .. ':' .. member)
  if parsed.unique ~= '' then release(parsed.unique) end
  local session = session_of(member, parsed)
  if session then redis.call('HDEL', session, 'room:' .. room) end
  if parsed.is_hidden then
    found.hidden = found.hidden - 1
    append(found, HIDDEN_LEAVE, member, '', is_replaced)
  else
    found.num = found.num - 1
    append(found, is_silent and SILENT_LEAVE or LEAVE, member, is_silent and '' or body, is_replaced)
  end
end

-- Deletes what is empty. The ids of messages expire.
local function clean_up(found)
  if redis.call('EXISTS', members) == 0 then redis.call('SREM', node_rooms, room) end
  if found and found.num + found.hidden <= 0 then
    redis.call('DEL', meta, members, names, roster, log)
  end
end
