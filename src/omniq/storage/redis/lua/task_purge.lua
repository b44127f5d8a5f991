-- Delete final tasks. ARGV: the moment before which they finished, how many at most. Returns how many.
local ids = redis.call(
  'ZRANGEBYSCORE', PREFIX .. 'finished', '-inf', '(' .. ARGV[1], 'LIMIT', 0, ARGV[2]
)
load(ids)
for _, id in ipairs(ids) do
  local task = records[id]
  lift(id, task)
  take_out(IDS_INDEX, id)
  for parent_id in string.gmatch(task[PARENTS], '%S+') do
    redis.call('LREM', PREFIX .. 'children:' .. parent_id, 0, id)
  end
end
call_many('HDEL', TASKS, ids)
call_many('HDEL', PAYLOADS, ids)
write_all()
return #ids
