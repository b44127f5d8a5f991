-- Delete expired results. ARGV: now (or ''), how many at most. Returns how many; those the server
-- deleted by itself before count as well.
local now = moment(ARGV[1])
local ends = PREFIX .. 'results:ends'
local ids = redis.call('ZRANGEBYSCORE', ends, '-inf', whole(now), 'LIMIT', 0, ARGV[2])
local keys = {}
for n = 1, #ids do
  keys[n] = PREFIX .. 'result:' .. ids[n]
end
call_many('UNLINK', nil, keys)
call_many('ZREM', ends, ids)
call_many('ZREM', PREFIX .. 'results', ids)
return #ids
