-- Append events. ARGV: seconds events are kept, the batch, the lengths of the data, the data. The batch
-- is flat: a task id, a type and a moment for each event.
local now, kept = server_now(), tonumber(ARGV[1])
local batch, data = cmsgpack.unpack(ARGV[2]), cut(ARGV[4], cmsgpack.unpack(ARGV[3]))
local last = redis.call('INCRBY', PREFIX .. 'events:count', #data)
redis.call('EXPIRE', PREFIX .. 'events:count', kept + 2 * DAY)

local entries, histories = {}, {}
for n = 1, #data do
  local id = batch[3 * n - 2]
  local serial = string.format('%012x', last - #data + n)
  entries[2 * n - 1], entries[2 * n] = batch[3 * n], serial .. batch[3 * n - 1] .. '|' .. id
  histories[2 * n - 1], histories[2 * n] = '0', id .. '|' .. serial .. data[n]
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
