-- Ask to be told when tasks become final. ARGV: the inbox, seconds the wish holds, task ids. Returns 1
-- if one of them is final already, or gone; otherwise 0.
local inbox, seconds, ids = ARGV[1], ARGV[2], {}
for n = 3, #ARGV do
  ids[#ids + 1] = ARGV[n]
end
load(ids)
for _, id in ipairs(ids) do
  if not records[id] or FINAL[records[id][STATUS]] then
    return 1
  end
end
for _, id in ipairs(ids) do
  if not records[id][WATCHED] then
    records[id][WATCHED] = true
    note_change(id)
  end
  redis.call('SADD', PREFIX .. 'watch:' .. id, inbox)
  redis.call('EXPIRE', PREFIX .. 'watch:' .. id, seconds)
end
write_records()
return 0
