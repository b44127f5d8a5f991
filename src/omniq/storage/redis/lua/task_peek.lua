-- When can something be claimed? ARGV: '1' to leave out paused queues, then queues. Returns the server's
-- clock, '1' if something can be claimed now, the earliest moment at which a task comes due (or '').
local paused = {}
if ARGV[1] == '1' then
  for _, queue in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do
    paused[queue] = true
  end
end
local ready, first = '', nil
for n = 2, #ARGV do
  if not paused[ARGV[n]] then
    local lane = lane_of(ARGV[n])
    if redis.call('EXISTS', lane.ready) == 1 then
      ready = '1'
    end
    for _, index in ipairs({ lane.delayed, lane.leased, lane.lapsed }) do
      local head = redis.call('ZRANGE', index, 0, 0, 'WITHSCORES')
      local at = tonumber(head[2])
      if at and (not first or at < first) then
        first = at
      end
    end
  end
end
return { whole(server_now()), ready, first and whole(first) or '' }
