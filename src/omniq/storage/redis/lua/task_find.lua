-- A page of tasks by id. ARGV: the id before the page (or ''), how many, how many to look at, the
-- filter: sets of statuses, queues and funcs (or false), a schedule, a worker (or ''). Returns the
-- last id looked at ('' at the end), then id, record and payload of each that matches.
local cursor, limit, looks = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local filter = cmsgpack.unpack(ARGV[4])
local statuses, queues, funcs, schedule, worker = unpack(filter, 1, 5)

local function matches(task)
  return (not statuses or statuses[task[STATUS]])
    and (not queues or queues[task[QUEUE]])
    and (not funcs or funcs[task[FUNC]])
    and (schedule == '' or task[SCHEDULE] == schedule)
    and (worker == '' or task[WORKER] == worker)
end

local found, last = {}, ''
while true do
  local step = math.min(looks, 500)
  local first = cursor == '' and '-' or '(' .. cursor
  local ids = redis.call('ZRANGEBYLEX', PREFIX .. 'ids', first, '+', 'LIMIT', 0, step)
  load(ids)
  for _, id in ipairs(ids) do
    if #found < limit and records[id] and matches(records[id]) then
      found[#found + 1] = id
    end
  end
  if #found >= limit then
    last = found[limit]
    break
  end
  looks = looks - step
  if #ids < step then
    break
  end
  cursor = ids[#ids]
  if looks <= 0 then
    last = cursor
    break
  end
end
return with_payloads(found, { last })
