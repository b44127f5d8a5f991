-- Shared by the scripts about events.
--
--   events:day:<day>  what was appended on that day, by the moment it happened: entries
--   events:of:<day>   the same by task id: histories
--   events:count      number of appends so far
--
-- An entry is a serial number, the type, a bar and the task id. A history is the task id, a bar, the
-- serial number and the data. A day is deleted as a whole; what was appended on it is kept until then.
local DAY = 86400
local SERIAL = 12

local function index_of(day)
  return PREFIX .. 'events:day:' .. whole(day)
end

local function histories_of(day)
  return PREFIX .. 'events:of:' .. whole(day)
end

local function today()
  return math.floor(server_now() / 1000000 / DAY)
end

-- The days whose events can be there, oldest first.
local function days(kept)
  local found, last = {}, today()
  for day = last - math.ceil(kept / DAY) - 1, last do
    found[#found + 1] = day
  end
  return found
end

local function parted(entry)
  local kind, id = string.match(entry, '^(.*)|([^|]*)$', SERIAL + 1)
  return string.sub(entry, 1, SERIAL), kind, id
end

-- The data of the events of a task on one day, in the order they were appended; of that serial number
-- alone, where one is given.
local function history_of(day, id, serial)
  local first = id .. '|' .. (serial or '')
  local lines = redis.call('ZRANGEBYLEX', histories_of(day), '[' .. first, '(' .. first .. '\255')
  for n = 1, #lines do
    lines[n] = string.sub(lines[n], #id + SERIAL + 2)
  end
  return lines
end
