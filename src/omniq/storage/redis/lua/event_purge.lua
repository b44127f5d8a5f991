-- Delete old events. ARGV: seconds events are kept, the moment before which they are old, how many at
-- most. Returns how many.
local left = tonumber(ARGV[3])
for _, day in ipairs(days(tonumber(ARGV[1]))) do
  if left > 0 then
    local entries = redis.call(
      'ZRANGEBYSCORE', index_of(day), '-inf', '(' .. ARGV[2], 'LIMIT', 0, left
    )
    for n = 1, #entries do
      local serial, _, id = parted(entries[n])
      local first = id .. '|' .. serial
      redis.call('ZREMRANGEBYLEX', histories_of(day), '[' .. first, '(' .. first .. '\255')
    end
    call_many('ZREM', index_of(day), entries)
    left = left - #entries
  end
end
return tonumber(ARGV[3]) - left
