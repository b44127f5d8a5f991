-- Append events. ARGV: seconds events are kept, the batch, the lengths of the data, the data. The batch
-- is flat: a task id, a type and a moment for each event.
-- The history of a task is a list. An index of one day's appends says when what happened to whom;
-- it expires as a whole.
local DAY = 86400
local now, kept = server_now(), tonumber(ARGV[1])
local batch, data = cmsgpack.unpack(ARGV[2]), cut(ARGV[4], cmsgpack.unpack(ARGV[3]))
local number = #data
local last = redis.call('INCRBY', PREFIX .. 'events:count', number)
redis.call('EXPIRE', PREFIX .. 'events:count', kept + 2 * DAY)

-- A list lives a day longer than it must, so that most appends need not prolong its life.
local function append(id, ...)
  local key = PREFIX .. 'events:of:' .. id
  local is_new = redis.call('RPUSH', key, ...) == select('#', ...)
  if is_new or redis.call('TTL', key) < kept then
    redis.call('EXPIRE', key, kept + DAY)
  end
end

-- Lines of one task go into its list two at a time: that is what most tasks have in a batch.
local entries, waiting = {}, {}
for n = 1, number do
  local id = batch[3 * n - 2]
  local serial = string.format('%012x', last - number + n)
  entries[2 * n - 1] = batch[3 * n]
  entries[2 * n] = serial .. batch[3 * n - 1] .. '|' .. id
  local line = serial .. data[n]
  if waiting[id] then
    append(id, waiting[id], line)
    waiting[id] = nil
  else
    waiting[id] = line
  end
end
for id, line in pairs(waiting) do
  append(id, line)
end

local day = math.floor(now / 1000000 / DAY)
local index = PREFIX .. 'events:day:' .. whole(day)
call_many('ZADD', index, entries, 2)
redis.call('EXPIREAT', index, whole((day + 1) * DAY + kept))
