-- Append events. ARGV: seconds events are kept, then for each event: task id, type, moment, data.
-- The history of a task is a list. An index of one day's appends says when what happened to whom;
-- it expires as a whole.
local DAY = 86400
local now, kept = server_now(), tonumber(ARGV[1])
local number = (#ARGV - 1) / 4
local last = redis.call('INCRBY', PREFIX .. 'events:count', number)
redis.call('EXPIRE', PREFIX .. 'events:count', kept + 2 * DAY)

local entries, histories = {}, {}
for n = 1, number do
  local position = 4 * n - 2
  local id = ARGV[position]
  local serial = string.format('%012x', last - number + n)
  entries[#entries + 1] = ARGV[position + 2]
  entries[#entries + 1] = serial .. ARGV[position + 1] .. '|' .. id
  local history = histories[id]
  if not history then
    history = {}
    histories[id] = history
  end
  history[#history + 1] = serial .. ARGV[position + 3]
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
