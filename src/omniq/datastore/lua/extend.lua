-- Move the end of a lease. KEYS as in lease.lua.  ARGV: receipt, microseconds.
if not redis.call('ZSCORE', KEYS[2], ARGV[1]) then return 0 end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000000 + time[2] + ARGV[2], ARGV[1])
return 1
