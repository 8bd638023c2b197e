-- Removes members of a fenced node: the removal and its event are one step, so there is one whichever node reaps.
local batch, keeps = tonumber(ARGV[8]), ARGV[9] == 'keep'

local lease = tonumber(redis.call('ZSCORE', nodes, node) or '0')
if lease > 0 then return { 'ALIVE' } end
local found = load_room()
-- The members of resumable sessions have until the end of their resume window, which began with the fence.
local time = redis.call('TIME')
local fenced_for = time[1] * 1000 + math.floor(time[2] / 1000) + lease
local is_rest_kept, cursor, reply = 1, '0', { 'OK' }
repeat
  local page = redis.call('HSCAN', members, cursor, 'COUNT', ARGV[8])
  cursor = page[1]
  for i = 1, #page[2], 2 do
    local member, parsed = page[2][i], parse_record(page[2][i + 1])
    if not keeps or parsed.session == '' or fenced_for >= parsed.keep then
      if batch == 0 then
        is_rest_kept = 0
        break
      end
      batch = batch - 1
      if found then
        remove(found, member, parsed, parsed.is_silent and SILENT_LEAVE or LEAVE, parsed.leave_body)
        for _, value in ipairs({ member, found.epoch, found.event, found.seq, found.num }) do
          reply[#reply + 1] = value
        end
      else
        redis.call('HDEL', members, member)
      end
    end
  end
until cursor == '0' or is_rest_kept == 0
clean_up(found)
table.insert(reply, 2, is_rest_kept)
return reply
