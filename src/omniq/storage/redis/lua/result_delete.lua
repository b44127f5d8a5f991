-- Delete results. ARGV: task ids. Returns how many there were, those expired not counted.
local now, keys, deleted = server_now(), keys_of(ARGV), 0
local found = get_many(keys)
for n = 1, #keys do
  if redis.call('UNLINK', keys[n]) == 1 and parted(found[n], now) then
    deleted = deleted + 1
  end
end
call_many('ZREM', PREFIX .. 'results', ARGV)
call_many('ZREM', PREFIX .. 'results:ends', ARGV)
return deleted
