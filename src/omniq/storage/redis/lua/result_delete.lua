-- Delete results. ARGV: task ids. Returns how many there were.
local deleted = 0
for n = 1, #ARGV do
  deleted = deleted + redis.call('UNLINK', PREFIX .. 'result:' .. ARGV[n])
end
call_many('ZREM', PREFIX .. 'results', ARGV)
call_many('ZREM', PREFIX .. 'results:ends', ARGV)
return deleted
