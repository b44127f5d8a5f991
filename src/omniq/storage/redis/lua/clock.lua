-- KEYS[1] is the prefix of all keys of a namespace: "{namespace}:". The hash tag keeps them on one
-- node, so that a script may touch any of them. Moments are whole microseconds since 1970.
local PREFIX = KEYS[1]
local CHUNK = 4000

local function server_now()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

-- The caller's moment, or the server's clock where the caller gave none.
local function moment(text)
  if text == '' then
    return server_now()
  end
  return tonumber(text)
end

local function whole(number)
  return string.format('%.0f', number)
end

-- redis.call(command, key, ...) with any number of arguments, `step` of which belong together.
local function call_many(command, key, arguments, step)
  local most = CHUNK - CHUNK % (step or 1)
  for first = 1, #arguments, most do
    local last = math.min(first + most - 1, #arguments)
    if key then
      redis.call(command, key, unpack(arguments, first, last))
    else
      redis.call(command, unpack(arguments, first, last))
    end
  end
end

-- Cut a text into parts of these lengths. The driver takes microseconds for each argument, so a batch
-- comes as one: its data joined, and what a script reads of it packed.
local function cut(text, lengths)
  local parts, first = {}, 1
  for n = 1, #lengths do
    parts[n] = string.sub(text, first, first + lengths[n] - 1)
    first = first + lengths[n]
  end
  return parts
end

-- MGET of any number of keys.
local function get_many(keys)
  if #keys == 0 then
    return {}
  elseif #keys <= CHUNK then
    return redis.call('MGET', unpack(keys))
  end
  local found = {}
  for first = 1, #keys, CHUNK do
    local last = math.min(first + CHUNK - 1, #keys)
    local values = redis.call('MGET', unpack(keys, first, last))
    for position = 1, #values do
      found[first + position - 1] = values[position]
    end
  end
  return found
end
