-- Write or delete a schedule. ARGV: id, the state it must have ('' for any, 'none' where there must be
-- none yet), its new state (or '' to delete it), its next fire time if it is active (or ''), its data.
-- A value is the state, a line break and the data. Returns 1 if done, 0 if it was not in that state.
local ALL, DUE = PREFIX .. 'schedules', PREFIX .. 'schedules:due'
local id, expected, state, due, data = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
if expected == 'none' then
  if redis.call('HEXISTS', ALL, id) == 1 then
    return 0
  end
elseif expected ~= '' then
  local stored = redis.call('HGET', ALL, id)
  if not stored or string.sub(stored, 1, #expected + 1) ~= expected .. '\n' then
    return 0
  end
end
redis.call('ZREM', DUE, id)
if state == '' then
  return redis.call('HDEL', ALL, id)
end
redis.call('HSET', ALL, id, state .. '\n' .. data)
if due ~= '' then
  redis.call('ZADD', DUE, due, id)
end
return 1
