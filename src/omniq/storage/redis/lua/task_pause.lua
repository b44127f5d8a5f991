-- Pause a queue ('1') or let it go on. ARGV: queue, '1' or ''.
if ARGV[2] == '1' then
  redis.call('SADD', PREFIX .. 'paused', ARGV[1])
else
  redis.call('SREM', PREFIX .. 'paused', ARGV[1])
  wake(ARGV[1])
end
