-- What the scripts share that change the token of a session.

-- The name and the number of an incarnation's process, which gets another incarnation after a fence.
local function process_of(incarnation) return incarnation:sub(1, -9) end

-- A member's record with another token of its session, which comes after 38 bytes.
local function with_token(record, token)
  local _, after_token = struct.unpack('>I2c0', record:sub(39))
  return record:sub(1, 38) .. struct.pack('>I2', #token) .. token .. record:sub(38 + after_token)
end
