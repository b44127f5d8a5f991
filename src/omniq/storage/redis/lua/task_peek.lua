-- When can something be claimed? ARGV: queues. Returns the server's clock, '1' if it can be now, the
-- earliest moment at which a task comes due (or '').
local paused = {}
for _, queue in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do
  paused[queue] = true
end
local ready, first = '', nil
for _, queue in ipairs(ARGV) do
  if not paused[queue] then
    if redis.call('EXISTS', PREFIX .. 'ready:' .. queue) == 1 then
      ready = '1'
    end
    for _, index in ipairs({ 'delayed:', 'leased:' }) do
      local head = redis.call('ZRANGE', PREFIX .. index .. queue, 0, 0, 'WITHSCORES')
      local at = tonumber(head[2])
      if at and (not first or at < first) then
        first = at
      end
    end
  end
end
return { whole(server_now()), ready, first and whole(first) or '' }
