-- Set the oldest item of a list apart under a receipt.
-- KEYS: list, ends (receipt -> end of lease), items (receipt -> item).  ARGV: receipt, microseconds.
-- Returns {item}, or {false, microseconds until the next lease ends (-1: none)}.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local ended = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for place = #ended, 1, -1 do
  local item = redis.call('HGET', KEYS[3], ended[place])
  if item then redis.call('RPUSH', KEYS[1], item) end
  redis.call('HDEL', KEYS[3], ended[place])
  redis.call('ZREM', KEYS[2], ended[place])
end

-- A receipt that is known already: the answer to the first call got lost.
local item = redis.call('HGET', KEYS[3], ARGV[1]) or redis.call('RPOP', KEYS[1])
if item then
  redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
  redis.call('HSET', KEYS[3], ARGV[1], item)
  return {item}
end
local first = redis.call('ZRANGE', KEYS[2], 0, 0, 'WITHSCORES')
return {false, first[2] and math.max(1, first[2] - now) or -1}
