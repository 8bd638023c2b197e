#!lua name=chat_rooms
-- Publishes a JSON object to a room, for programs in any language. Nodes load this function, with the scripts that they
-- use themselves in its middle.
--
--   FCALL chat_publish 1 PREFIX ROOM OBJECT [KEY]
--
-- Answers the number of members, which is 0 if nobody is in the room. An object whose key was used before in the room is
-- not published again.

local MAX_BYTES, MAX_KEY_BYTES = 65536, 256
-- Clients can read no more.
local MAX_DEPTH = 127
-- Only servers set these keys.
local RESERVED = { 'num', 'seq', 'id', 'member', 'direct', 'roomId' }
-- The events of the protocol. To a client, an object with one of them would look as if the server itself had sent it.
local PROTOCOL_EVENTS = {}
for event in ([[
  out noAuth error heartbeat welcome entered left resumed ack expiring lagged authenticated members presence state direct
  history enter auth leave resume
]]):gmatch('%S+') do
  PROTOCOL_EVENTS[event] = true
end

local function fail(message) error({ err = 'ERR chat_publish: ' .. message }, 0) end

local function is_utf8(text)
  for _, valid in ipairs({
    '[\194-\223][\128-\191]', '\224[\160-\191][\128-\191]', '[\225-\236\238\239][\128-\191][\128-\191]',
    '\237[\128-\159][\128-\191]', '\240[\144-\191][\128-\191][\128-\191]',
    '[\241-\243][\128-\191][\128-\191][\128-\191]', '\244[\128-\143][\128-\191][\128-\191]',
  }) do
    text = text:gsub(valid, ' ')
  end
  return not text:find('[\128-\255]')
end

local function is_number(word)
  local rest = word:match('^%-?0(.*)$') or word:match('^%-?[1-9]%d*(.*)$')
  rest = rest and (rest:match('^%.%d+(.*)$') or rest)
  if not rest or not (rest == '' or rest:match('^[eE][+-]?%d+$')) then return false end
  -- It fits a double.
  return math.abs(tonumber(word)) < math.huge
end

local function is_too_deep(bare)
  local depth = 0
  for bracket in bare:gmatch('[{}%[%]]') do
    depth = depth + ((bracket == '{' or bracket == '[') and 1 or -1)
    if depth > MAX_DEPTH then return true end
  end
  return false
end

-- Whether a text that cjson can read is JSON that clients can read. It reads more, such as `NaN` and `0x10`.
local function is_strict(text)
  local is_valid = true
  local bare = text:gsub('\\["\\/bfnrt]', ''):gsub('\\u%x%x%x%x', ''):gsub('"[^"]*"', function(literal)
    if literal:find('[%z\1-\31]') then is_valid = false end
    return ' '
  end)
  if is_too_deep(bare) then fail('the object is nested more than ' .. MAX_DEPTH .. ' deep') end
  for word in bare:gmatch('[^ \t\n\r{}%[%],:]+') do
    if word ~= 'true' and word ~= 'false' and word ~= 'null' and not is_number(word) then return false end
  end
  return is_valid
end

-- Where a literal ends that begins at `from`.
local function end_of_literal(text, from)
  local at = from
  repeat
    at = text:find('["\\]', at + 1)
    local is_escape = text:byte(at) == 92
    if is_escape then at = at + 1 end
  until not is_escape
  return at
end

-- A key that the object itself has twice. Parsers disagree about which value counts.
local function key_twice(text)
  local seen, depth, at = {}, 0, 0
  while true do
    at = text:find('["{}%[%]]', at + 1)
    if not at then return nil end
    local found = text:sub(at, at)
    if found == '"' then
      local last = end_of_literal(text, at)
      if depth == 1 and text:find('^%s*:', last + 1) then
        local key = cjson.decode('[' .. text:sub(at, last) .. ']')[1]
        if seen[key] then return key end
        seen[key] = true
      end
      at = last
    else
      depth = depth + ((found == '{' or found == '[') and 1 or -1)
    end
  end
end

-- The text of an object that clients can handle. The text stays as it is: cjson would change numbers and empty arrays.
local function check(text)
  if #text > MAX_BYTES then fail('the object has ' .. #text .. ' bytes, but may have ' .. MAX_BYTES) end
  if not is_utf8(text) then fail('the object is not UTF-8') end
  local is_json, object = pcall(cjson.decode, text)
  if not is_json then fail('the object is not JSON: ' .. tostring(object)) end
  if not is_strict(text) then
    fail('the object is not JSON: it contains a number, a word or a control character that JSON does not have')
  end
  text = text:match('^%s*({.*})%s*$')
  if not text then fail('the value is not a JSON object') end
  if type(object.event) ~= 'string' then fail('the object needs a string "event"') end
  if PROTOCOL_EVENTS[object.event] then
    fail('the event "' .. object.event .. '" belongs to the protocol; use another name')
  end
  local twice = key_twice(text)
  if twice then fail('the object has the key "' .. twice .. '" twice') end
  for _, key in ipairs(RESERVED) do
    if object[key] ~= nil then fail('the object has the key "' .. key .. '", which only servers set') end
  end
  return text
end

-- The body of a host's frame, as `src/broker/wire.rs` of tower-chat-rooms reads it.
local function body_of(text)
  local open, tail = text:sub(1, -2), ',"num":'
  return struct.pack('>BBI4', 1, 0, #open + 1) .. open .. struct.pack('>I4I4', 0, #tail + 1) .. tail
end

-- An epoch that no room has had: no other run of a server has this id.
local function new_epoch(run, room)
  local time = redis.call('TIME')
  local hash = redis.sha1hex(table.concat({ run, time[1], time[2], room }, ' '))
  return (hash:sub(1, 16):gsub('%x%x', function(byte) return string.char(tonumber(byte, 16)) end))
end

local function publish(KEYS, ARGV)
