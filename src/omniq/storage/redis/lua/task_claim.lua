-- Claim tasks. ARGV: now (or ''), microseconds of the lease, worker, token, how many, then queues in
-- strict order. Returns now, then id, record and payload of each task in the order they are to run.
now = moment(ARGV[1])
local worker, token, limit = ARGV[3], ARGV[4], tonumber(ARGV[5])
local ends_at = now + tonumber(ARGV[2])
-- So many tasks come due in one claim at most; the rest follow with the next.
local MOST_DUE = math.max(limit, 1000)

local paused = {}
for _, queue in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do
  paused[queue] = true
end

-- The members of an index that have come due, and their ids; their records are loaded.
local function due(index)
  local ids = {}
  local members = redis.call('ZRANGEBYSCORE', index, '-inf', whole(now), 'LIMIT', 0, MOST_DUE)
  for n = 1, #members do
    ids[n] = string.sub(members[n], PLACE_LENGTH + 1)
  end
  load(ids)
  return members, ids
end

-- Line up what has come due: lifecycle.promote for delayed tasks; a lost lease stays RUNNING.
local function line_up(lane)
  local members, ids = due(lane.delayed)
  for n = 1, #ids do
    local task = records[ids[n]]
    if task then
      lift(ids[n], task)
      task[STATUS], task[DUE] = 'pending', -1
      place(ids[n], task)
    else
      take_out(lane.delayed, members[n])
    end
  end
  members, ids = due(lane.leased)
  for n = 1, #ids do
    local task = records[ids[n]]
    take_out(lane.leased, members[n])
    if task then
      task[LAPSED] = true
      note_change(ids[n])
      add(lane.lapsed, score_of(task[DUE]), members[n])
      add(lane.ready, '0', members[n])
    end
  end
end

local queues = {}
for n = 6, #ARGV do
  if not paused[ARGV[n]] then
    queues[#queues + 1] = ARGV[n]
    line_up(lane_of(ARGV[n]))
  end
end
write_indexes()
for _, queue in ipairs(queues) do
  lane_of(queue).woken = false
end

-- lifecycle.claim, of a task just taken out of `ready`; false for one that was lined up by a caller
-- whose moment was later than ours.
local function claim(id, task, lane)
  local status = task[STATUS]
  if status == 'running' then
    take_out(lane.lapsed, task[PLACE] .. id)
    if task[DUE] > now then
      task[LAPSED] = false
      add(lane.leased, score_of(task[DUE]), task[PLACE] .. id)
      note_change(id)
      return false
    end
    task[LOST] = task[LOST] + 1
  end
  count(lane, status, -1)
  task[STATUS], task[TOKEN], task[WORKER] = 'running', token, worker
  task[ATTEMPT], task[CLAIMS] = task[ATTEMPT] + 1, task[CLAIMS] + 1
  task[DUE], task[STARTED], task[PROGRESS] = ends_at, now, false
  place(id, task)
  return true
end

local taken = {}
local function take(queue)
  local lane = lane_of(queue)
  while #taken < limit do
    local popped = redis.call('ZPOPMIN', lane.ready, limit - #taken)
    if #popped == 0 then
      return
    end
    local ids = {}
    for n = 1, #popped, 2 do
      ids[(n + 1) / 2] = string.sub(popped[n], PLACE_LENGTH + 1)
    end
    load(ids)
    for n = 1, #ids do
      local id = ids[n]
      local task = records[id]
      if task and claim(id, task, lane) then
        taken[#taken + 1] = id
      end
    end
  end
end

for _, queue in ipairs(queues) do
  take(queue)
end
write_all()
if #taken >= limit then
  for _, queue in ipairs(queues) do
    if redis.call('EXISTS', lane_of(queue).ready) == 1 then
      wake(queue)
    end
  end
end
return with_payloads(taken, { whole(now) })
