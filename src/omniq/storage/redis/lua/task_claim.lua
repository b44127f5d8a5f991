-- Claim tasks. ARGV: now (or ''), microseconds of the lease, worker, token, how many, then queues in
-- strict order. Returns now, then id, record and payload of each task in the order they are to run.
local now, worker, token, limit = moment(ARGV[1]), ARGV[3], ARGV[4], tonumber(ARGV[5])
local ends_at = now + tonumber(ARGV[2])
-- So many tasks come due in one claim at most; the rest follow with the next.
local MOST_DUE = math.max(limit, 1000)

local paused = {}
for _, queue in ipairs(redis.call('SMEMBERS', PREFIX .. 'paused')) do
  paused[queue] = true
end

local function due(index)
  return redis.call('ZRANGEBYSCORE', PREFIX .. index, '-inf', whole(now), 'LIMIT', 0, MOST_DUE)
end

local function ids_of(members)
  local ids = {}
  for n, member in ipairs(members) do
    ids[n] = string.sub(member, PLACE_LENGTH + 1)
  end
  return ids
end

-- Line up what has come due: lifecycle.promote for delayed tasks; a lost lease stays RUNNING.
local queues = {}
for n = 6, #ARGV do
  local queue = ARGV[n]
  if not paused[queue] then
    queues[#queues + 1] = queue
    local ids = ids_of(due('delayed:' .. queue))
    load(ids)
    for _, id in ipairs(ids) do
      local task = records[id]
      lift(id, task)
      task[STATUS], task[DUE] = 'pending', -1
      place(id, task)
    end
    for _, member in ipairs(due('leased:' .. queue)) do
      enter('leased:' .. queue, member, false)
      enter('ready:' .. queue, member, 0)
    end
  end
end
write_indexes()

-- lifecycle.claim
local function claim(id, task)
  lift(id, task)
  if task[STATUS] == 'running' then
    task[LOST] = task[LOST] + 1
  end
  task[STATUS], task[TOKEN], task[WORKER] = 'running', token, worker
  task[ATTEMPT], task[CLAIMS] = task[ATTEMPT] + 1, task[CLAIMS] + 1
  task[DUE], task[STARTED], task[PROGRESS] = ends_at, now, false
  place(id, task)
end

local taken = {}
for _, queue in ipairs(queues) do
  while #taken < limit do
    local popped = redis.call('ZPOPMIN', PREFIX .. 'ready:' .. queue, limit - #taken)
    if #popped == 0 then
      break
    end
    local ids = {}
    for n = 1, #popped, 2 do
      ids[#ids + 1] = string.sub(popped[n], PLACE_LENGTH + 1)
    end
    load(ids)
    for _, id in ipairs(ids) do
      local task = records[id]
      if task[STATUS] == 'running' and task[DUE] > now then
        -- The moments callers gave went backwards.
        enter('leased:' .. queue, task[PLACE] .. id, task[DUE])
      else
        claim(id, task)
        taken[#taken + 1] = id
      end
    end
  end
end

woken = {}
write_all()
if #taken >= limit then
  for _, queue in ipairs(queues) do
    if redis.call('EXISTS', PREFIX .. 'ready:' .. queue) == 1 then
      wake(queue)
    end
  end
end
local answer = with_payloads(taken)
table.insert(answer, 1, whole(now))
return answer
