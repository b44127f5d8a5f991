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
    redis.call(command, key, unpack(arguments, first, last))
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

-- HMGET of any number of fields (or ZMSCORE of any number of members).
local function get_many(key, fields, command)
  command = command or 'HMGET'
  if #fields == 0 then
    return {}
  elseif #fields <= CHUNK then
    return redis.call(command, key, unpack(fields))
  end
  local found = {}
  for first = 1, #fields, CHUNK do
    local last = math.min(first + CHUNK - 1, #fields)
    local values = redis.call(command, key, unpack(fields, first, last))
    for position = 1, #values do
      found[first + position - 1] = values[position]
    end
  end
  return found
end
