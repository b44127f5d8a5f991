-- Appending events. Part of the script that does nothing else, and of the one that stores tasks.

-- Append events. The arguments from `first` on: seconds events are kept, the batch, the lengths of the
-- data, the data. The batch is flat: a task id, a type and a moment for each event. With `told`, only
-- the events of those tasks.
local function put_events(first, told)
  local kept, batch = tonumber(ARGV[first]), cmsgpack.unpack(ARGV[first + 1])
  local data = cut(ARGV[first + 3], cmsgpack.unpack(ARGV[first + 2]))
  local last = redis.call('INCRBY', PREFIX .. 'events:count', #data) - #data
  redis.call('EXPIRE', PREFIX .. 'events:count', kept + 2 * DAY)
  local entries, histories = {}, {}
  for n = 1, #data do
    local id = batch[3 * n - 2]
    if not told or told[id] then
      local serial = string.format('%012x', last + n)
      entries[#entries + 1] = batch[3 * n]
      entries[#entries + 1] = serial .. batch[3 * n - 1] .. '|' .. id
      histories[#histories + 1] = '0'
      histories[#histories + 1] = id .. '|' .. serial .. data[n]
    end
  end
  local day = today()
  local ends_at = whole((day + 2) * DAY + kept)
  for index, members in pairs({ [index_of(day)] = entries, [histories_of(day)] = histories }) do
    call_many('ZADD', index, members, 2)
    redis.call('EXPIREAT', index, ends_at)
  end
  -- What is old enough goes a day before it expires: here the server frees its memory aside.
  local past = day - math.ceil(kept / DAY) - 1
  redis.call('UNLINK', index_of(past), histories_of(past))
end
