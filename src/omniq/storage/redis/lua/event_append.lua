-- Append events. ARGV: seconds events are kept, the batch, the lengths of the data, the data. An item of
-- the batch is a task id, a type and a moment.
-- The history of a task is a list. An index of one day's appends says when what happened to whom;
-- it expires as a whole.
local DAY = 86400
local now, kept = server_now(), tonumber(ARGV[1])
local batch, data = cmsgpack.unpack(ARGV[2]), cut(ARGV[4], cmsgpack.unpack(ARGV[3]))
local number = #batch
local last = redis.call('INCRBY', PREFIX .. 'events:count', number)
redis.call('EXPIRE', PREFIX .. 'events:count', kept + 2 * DAY)

local entries, histories = {}, {}
for n = 1, number do
  local id, kind, at = batch[n][1], batch[n][2], batch[n][3]
  local serial = string.format('%012x', last - number + n)
  entries[2 * n - 1] = at
  entries[2 * n] = serial .. kind .. '|' .. id
  local history = histories[id]
  if not history then
    history = {}
    histories[id] = history
  end
  history[#history + 1] = serial .. data[n]
end

local day = math.floor(now / 1000000 / DAY)
local index = PREFIX .. 'events:day:' .. whole(day)
call_many('ZADD', index, entries, 2)
redis.call('EXPIREAT', index, whole((day + 1) * DAY + kept))
for id, history in pairs(histories) do
  local key = PREFIX .. 'events:of:' .. id
  call_many('RPUSH', key, history)
  redis.call('EXPIRE', key, kept + DAY)
end
