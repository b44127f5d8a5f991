-- Shared by the scripts about tasks. A script gathers what it changes and writes it at its end:
-- records in one HSET, each index in one ZREM and one ZADD, whatever the number of tasks.
--
--   tasks             by id the record: state and what a script must know of the request (MessagePack)
--   payloads          by id the payload: bytes no script looks into
--   ready:<queue>     what can be claimed, in order
--   delayed:<queue>   SCHEDULED tasks by the moment they are due
--   leased:<queue>    RUNNING tasks by the end of their lease
--   lapsed:<queue>    those whose lease a claim found ended; they stand in `ready`, too
--   finished          final tasks by the moment they finished
--   ids               all ids in order
--   counts            number of tasks by "queue:status"
--   unique            id of the live task by "queue:key"
--   children:<id>     who waits for this task
--   paused            names of paused queues
--   wake:<queue>      a token for one who waits for work
--   watch:<id>        inboxes of those who wait for the end of this task
--   inbox:<client>    ids that became final, for one client
--
-- A record is an array; false means None in a text, -1 in a moment.
local STATUS, ATTEMPT, CLAIMS, TOKEN, DUE, LOST, WORKER, CANCEL, UNFINISHED = 1, 2, 3, 4, 5, 6, 7, 8, 9
local PROGRESS, ERROR, STARTED, FINISHED, EXPIRES = 10, 11, 12, 13, 14
local STATE = EXPIRES
-- The place in line (20 characters before the id), then parts of the request, then our own notes.
local PLACE, QUEUE, FUNC, KEY, SCHEDULE, RELEASES, RUN_AT, PARENTS = 15, 16, 17, 18, 19, 20, 21, 22
local NONCE, HAS_CHILDREN, WATCHED, LAPSED = 23, 24, 25, 26
local PLACE_LENGTH = 20
local TOKEN_SECONDS, INBOX_SECONDS = 300, 60
-- Who waits looks again after five seconds; a lease that ends sooner is worth a token.
local LONGEST_BLOCK = 5000000

local FINAL = { completed = true, failed = true, cancelled = true, expired = true }

-- The moment of the script; each script that needs it sets it first.
local now = 0

local TASKS, PAYLOADS = PREFIX .. 'tasks', PREFIX .. 'payloads'
local known, records, packed = {}, {}, {}

local function load(ids)
  local missing, n = {}, 0
  for position = 1, #ids do
    local id = ids[position]
    if not known[id] then
      known[id] = true
      n = n + 1
      missing[n] = id
    end
  end
  local found = get_many(TASKS, missing)
  for position = 1, n do
    if found[position] then
      records[missing[position]] = cmsgpack.unpack(found[position])
    end
  end
end

-- The names of a queue's indexes, and by how much its numbers of tasks changed.
local lanes = {}
local function lane_of(queue)
  local lane = lanes[queue]
  if not lane then
    lane = {
      ready = PREFIX .. 'ready:' .. queue,
      delayed = PREFIX .. 'delayed:' .. queue,
      leased = PREFIX .. 'leased:' .. queue,
      lapsed = PREFIX .. 'lapsed:' .. queue,
      counts = {},
      woken = false,
    }
    lanes[queue] = lane
  end
  return lane
end

local function count(lane, status, change)
  lane.counts[status] = (lane.counts[status] or 0) + change
end

-- Scores as text, each made once: most tasks of a batch share their moments.
local texts = {}
local function score_of(number)
  local text = texts[number]
  if not text then
    text = whole(number)
    texts[number] = text
  end
  return text
end

local added, taken_out, touched = {}, {}, {}
local FINISHED_INDEX, IDS_INDEX = PREFIX .. 'finished', PREFIX .. 'ids'

local function add(index, score, member)
  local list = added[index]
  if not list then
    list = { n = 0 }
    added[index] = list
  end
  local n = list.n
  list[n + 1], list[n + 2], list.n = score, member, n + 2
end

local function take_out(index, member)
  local list = taken_out[index]
  if not list then
    list = { n = 0 }
    taken_out[index] = list
  end
  local n = list.n + 1
  list[n], list.n = member, n
end

local function write_indexes()
  for index, members in pairs(taken_out) do
    call_many('ZREM', index, members)
  end
  for index, members in pairs(added) do
    call_many('ZADD', index, members, 2)
  end
  added, taken_out, touched = {}, {}, {}
end

-- Take a task out of where its state put it. What a script moves twice is written in between.
local function lift(id, task)
  if touched[id] then
    write_indexes()
  end
  touched[id] = true
  local status, lane = task[STATUS], lane_of(task[QUEUE])
  count(lane, status, -1)
  if status == 'running' then
    local member = task[PLACE] .. id
    if task[LAPSED] then
      take_out(lane.lapsed, member)
      take_out(lane.ready, member)
    else
      take_out(lane.leased, member)
    end
  elseif status == 'pending' then
    take_out(lane.ready, task[PLACE] .. id)
  elseif status == 'scheduled' then
    take_out(lane.delayed, task[PLACE] .. id)
  elseif FINAL[status] then
    take_out(FINISHED_INDEX, id)
  end
end

local changed, is_changed = {}, {}
local function note_change(id)
  if not is_changed[id] then
    is_changed[id] = true
    changed[#changed + 1] = id
  end
end

-- Put a task where its state belongs, and remember to write it.
local ended = {}
local function place(id, task)
  local status, lane = task[STATUS], lane_of(task[QUEUE])
  count(lane, status, 1)
  if status == 'running' then
    task[LAPSED] = false
    add(lane.leased, score_of(task[DUE]), task[PLACE] .. id)
    lane.woken = lane.woken or task[DUE] - now < LONGEST_BLOCK
  elseif status == 'pending' then
    add(lane.ready, '0', task[PLACE] .. id)
    lane.woken = true
  elseif status == 'scheduled' then
    add(lane.delayed, score_of(task[DUE]), task[PLACE] .. id)
    lane.woken = true
  elseif FINAL[status] then
    add(FINISHED_INDEX, score_of(task[FINISHED]), id)
    if task[WATCHED] then
      ended[#ended + 1] = id
    end
  end
  note_change(id)
end

local function write_records()
  local values, pack = {}, cmsgpack.pack
  for n = 1, #changed do
    local id = changed[n]
    local value = pack(records[id])
    packed[id] = value
    values[2 * n - 1], values[2 * n] = id, value
  end
  changed, is_changed = {}, {}
  call_many('HSET', TASKS, values, 2)
end

local function write_counts()
  for queue, lane in pairs(lanes) do
    for status, change in pairs(lane.counts) do
      local field = queue .. ':' .. status
      if change ~= 0 and redis.call('HINCRBY', PREFIX .. 'counts', field, change) == 0 then
        redis.call('HDEL', PREFIX .. 'counts', field)
      end
    end
    lane.counts = {}
  end
end

-- One token is enough: whoever takes it claims, and leaves a new one if there is more to claim.
local function wake(queue)
  local list = PREFIX .. 'wake:' .. queue
  if redis.call('EXISTS', list) == 0 then
    redis.call('RPUSH', list, '1')
    redis.call('EXPIRE', list, TOKEN_SECONDS)
  end
end

local function tell_watchers()
  for _, id in ipairs(ended) do
    local watch = PREFIX .. 'watch:' .. id
    for _, inbox in ipairs(redis.call('SMEMBERS', watch)) do
      redis.call('RPUSH', inbox, id)
      redis.call('EXPIRE', inbox, INBOX_SECONDS)
    end
    redis.call('DEL', watch)
  end
end

local function write_all()
  write_records()
  write_indexes()
  write_counts()
  for queue, lane in pairs(lanes) do
    if lane.woken then
      wake(queue)
    end
  end
  tell_watchers()
end

-- lifecycle._ended
local function finish(task, status, reason)
  task[STATUS], task[TOKEN], task[DUE] = status, '', -1
  task[FINISHED], task[UNFINISHED], task[ERROR] = now, 0, reason
end

-- lifecycle._ready
local function make_ready(task)
  local due = task[STATUS] == 'scheduled' and task[DUE] or -1
  if due == -1 then
    due = task[RUN_AT]
  end
  if due ~= -1 and due > now then
    task[STATUS], task[DUE] = 'scheduled', due
  else
    task[STATUS], task[DUE] = 'pending', -1
  end
end

-- lifecycle._parent_reason
local function parent_reason(parent_id, status)
  return 'parent ' .. parent_id .. ' did not complete (' .. status .. ')'
end

local function key_field(task)
  return task[QUEUE] .. ':' .. task[KEY]
end

-- Take the unique key of a live task; return the id of its holder.
local function take_key(id, task)
  if task[KEY] == '' or redis.call('HSETNX', PREFIX .. 'unique', key_field(task), id) == 1 then
    return id
  end
  return redis.call('HGET', PREFIX .. 'unique', key_field(task))
end

local function free_key(task)
  if task[KEY] ~= '' then
    redis.call('HDEL', PREFIX .. 'unique', key_field(task))
  end
end

-- lifecycle.parent_finished
local function parent_finished(child, parent_id, status)
  if status ~= 'completed' and child[RELEASES] == 0 then
    finish(child, 'cancelled', parent_reason(parent_id, status))
    return
  end
  child[UNFINISHED] = math.max(0, child[UNFINISHED] - 1)
  if child[UNFINISHED] == 0 then
    make_ready(child)
  end
end

-- Tell each child of a task that is final by now, and theirs if that ends them too.
local function settle_children(id)
  if not records[id][HAS_CHILDREN] then
    return
  end
  local final, n = { id }, 1
  while final[n] do
    local parent = records[final[n]]
    if parent[HAS_CHILDREN] then
      local key = PREFIX .. 'children:' .. final[n]
      local children = redis.call('LRANGE', key, 0, -1)
      redis.call('DEL', key)
      parent[HAS_CHILDREN] = false
      note_change(final[n])
      load(children)
      for _, child_id in ipairs(children) do
        local child = records[child_id]
        if child and child[STATUS] == 'waiting' then
          lift(child_id, child)
          parent_finished(child, final[n], parent[STATUS])
          place(child_id, child)
          if FINAL[child[STATUS]] then
            free_key(child)
            final[#final + 1] = child_id
          end
        end
      end
    end
    n = n + 1
  end
end

-- What a claim or a heartbeat answers for one task: its id, its record, its payload.
local function with_payloads(ids, answer)
  local first = #answer
  local payloads = get_many(PAYLOADS, ids)
  for n = 1, #ids do
    local id = ids[n]
    answer[first + 3 * n - 2] = id
    answer[first + 3 * n - 1] = packed[id] or cmsgpack.pack(records[id])
    answer[first + 3 * n] = payloads[n]
  end
  return answer
end
