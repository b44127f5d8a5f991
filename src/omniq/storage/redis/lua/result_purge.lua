-- Delete expired results. ARGV: now (or ''), how many at most. Returns how many; those the server
-- deleted by itself before count as well.
local now = moment(ARGV[1])
local ends = PREFIX .. 'results:ends'
local ids = redis.call('ZRANGEBYSCORE', ends, '-inf', whole(now), 'LIMIT', 0, ARGV[2])
call_many('UNLINK', nil, keys_of(ids))
call_many('ZREM', ends, ids)
call_many('ZREM', PREFIX .. 'results', ids)
return #ids
