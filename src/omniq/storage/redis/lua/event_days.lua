-- Shared by the scripts that read the daily indexes of events.
local DAY = 86400

-- The indexes that can be there, oldest first.
local function daily_indexes(kept)
  local today = math.floor(server_now() / 1000000 / DAY)
  local indexes = {}
  for day = today - math.ceil(kept / DAY) - 1, today do
    indexes[#indexes + 1] = PREFIX .. 'events:day:' .. whole(day)
  end
  return indexes
end

-- An entry of an index is the serial number, the type, a bar and the task id.
local function parted(entry)
  local kind, id = string.match(entry, '^(.*)|([^|]*)$', 13)
  return string.sub(entry, 1, 12), kind, id
end
