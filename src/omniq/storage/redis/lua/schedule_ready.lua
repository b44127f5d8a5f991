-- The active schedules whose fire time has come, earliest first. ARGV: now. Returns their values.
local ids = redis.call('ZRANGEBYSCORE', PREFIX .. 'schedules:due', '-inf', ARGV[1])
local values = {}
for n = 1, #ids do
  values[n] = redis.call('HGET', PREFIX .. 'schedules', ids[n])
end
return values
