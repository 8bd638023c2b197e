-- The latest events with a frame up to an event, from the newest on, each with its age in ms.
local epoch, last, max_frames, max_bytes, max_age = unpack(ARGV, 8, 12)
max_frames, max_bytes, max_age = tonumber(max_frames), tonumber(max_bytes), tonumber(max_age)

local found = load_room()
if not found then return { 'NO_ROOM' } end
local reply = answer(found)
if found.epoch ~= epoch then return reply end
local now, from = now_ms(), last .. '-1'
local frames, bytes = 0, 0
repeat
  local page = redis.call('XREVRANGE', log, from, '-', 'COUNT', 64)
  for _, entry in ipairs(page) do
    local payload, age = entry[2][2], now - tonumber(entry[2][4])
    if has_frame(payload:byte(2)) then
      frames, bytes = frames + 1, bytes + #payload
      if frames > max_frames or bytes > max_bytes or age > max_age then return reply end
      reply[#reply + 1] = payload
      reply[#reply + 1] = age
    end
    from = '(' .. entry[1]
  end
until #page < 64
return reply
