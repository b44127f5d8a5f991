-- End a lease. KEYS as in lease.lua.  ARGV: receipt, '1' to put the item back to the front.
local item = redis.call('HGET', KEYS[3], ARGV[1])
if not item then return 0 end
redis.call('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
if ARGV[2] == '1' then redis.call('RPUSH', KEYS[1], item) end
return 1
