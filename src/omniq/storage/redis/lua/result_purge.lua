-- Delete expired results. ARGV: now (or ''), how many at most. Returns how many; those the server
-- deleted by itself before count as well.
local now = moment(ARGV[1])
local ids = redis.call('ZRANGEBYSCORE', ENDS, '-inf', whole(now), 'LIMIT', 0, ARGV[2])
forget(ids, get_many(ENDS, ids, 'ZMSCORE'))
return #ids
