-- Delete old events. ARGV: seconds events are kept, the moment before which they are old, how many at
-- most. Returns how many.
local left = tonumber(ARGV[3])
local histories = {}
for _, index in ipairs(daily_indexes(tonumber(ARGV[1]))) do
  if left > 0 then
    local rows = redis.call('ZRANGEBYSCORE', index, '-inf', '(' .. ARGV[2], 'LIMIT', 0, left)
    for n = 1, #rows do
      local serial, _, id = parted(rows[n])
      histories[id] = histories[id] or {}
      histories[id][serial] = true
    end
    call_many('ZREM', index, rows)
    left = left - #rows
  end
end
for id, old in pairs(histories) do
  local key = PREFIX .. 'events:of:' .. id
  for _, line in ipairs(redis.call('LRANGE', key, 0, -1)) do
    if old[string.sub(line, 1, 12)] then
      redis.call('LREM', key, 1, line)
    end
  end
end
return tonumber(ARGV[3]) - left
