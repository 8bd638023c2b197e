end

local function chat_publish(keys, args)
  local prefix, room, object, key = keys[1], args[1], args[2], args[3]
  if #keys ~= 1 or #args < 2 or #args > 3 then
    fail('needs one key and two or three arguments: FCALL chat_publish 1 PREFIX ROOM OBJECT [KEY]')
  end
  if prefix == '' or prefix:find('[{}]') then fail('the prefix must not be empty nor contain braces') end
  if room == '' then fail('the name of the room is empty') end
  if key and (key == '' or #key > MAX_KEY_BYTES) then
    fail('the idempotency key must have 1 to ' .. MAX_KEY_BYTES .. ' bytes')
  end
  local body, tag = body_of(check(object)), '{' .. prefix .. '}:'
  local function of_room(name) return tag .. name .. ':' .. room end
  local run = redis.call('INFO', 'server'):match('run_id:(%x+)')
  local epoch = new_epoch(run, room)
  local stored = redis.call('HMGET', of_room('meta'), 'limits', 'age')
  -- A node of an earlier version has opened the room: the defaults of `Settings`.
  local limits = stored[1] or struct.pack('>I4I8I8I4', 1000, 4194304, 120000, 10000)
  -- As nodes do it, but without a node.
  local reply = publish(
    {
      tag .. 'nodes', tag .. 'rooms:', of_room('meta'), of_room('members:'), of_room('names'), of_room('roster'),
      of_room('log'), of_room('ids'), of_room('ids-old'),
    },
    {
      '', run, epoch, of_room('ch'), limits, stored[2] or 3600000, room, '',
      -- Nobody else has the epoch, so without a key the id is new.
      'key:' .. (key or epoch), body,
    }
  )
  return reply[1] == 'OK' and reply[5] or 0
end

redis.register_function('chat_publish', function(keys, args)
  local is_done, reply = pcall(chat_publish, keys, args)
  if is_done then return reply end
  -- Depending on the server, `pcall` returns the table or its text. Errors of Lua itself are texts.
  local text = type(reply) == 'table' and reply.err or reply
  if text:find('^ERR chat_publish: ') then return { err = text } end
  error(reply, 0)
end)
