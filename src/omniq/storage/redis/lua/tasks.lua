-- Shared by the scripts about tasks. A script gathers what it changes and writes it at its end:
-- records in one MSET, each index in one ZREM and one ZADD, whatever the number of tasks.
--
--   t:<id>            the record: state and what a script must know of the request (MessagePack)
--   p:<id>            the payload: bytes no script looks into
--   ready:<queue>     what can be claimed, in order
--   delayed:<queue>   SCHEDULED tasks by the moment they are due
--   leased:<queue>    RUNNING tasks by the end of their lease; once it ended, they stand in `ready`
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
local PROGRESS, ERROR, STARTED, FINISHED = 10, 11, 12, 13
local STATE = 13
-- The place in line (20 characters before the id), then parts of the request, then our own notes.
local PLACE, QUEUE, FUNC, KEY, SCHEDULE, RELEASES, RUN_AT, PARENTS = 14, 15, 16, 17, 18, 19, 20, 21
local NONCE, HAS_CHILDREN, WATCHED = 22, 23, 24
local PLACE_LENGTH = 20
local TOKEN_SECONDS, INBOX_SECONDS = 300, 60

local FINAL = { completed = true, failed = true, cancelled = true, expired = true }

local records, known, changed, entries, counted, woken, ended = {}, {}, {}, {}, {}, {}, {}

local function load(ids)
  local missing, keys = {}, {}
  for _, id in ipairs(ids) do
    if not known[id] then
      known[id] = true
      missing[#missing + 1] = id
      keys[#keys + 1] = PREFIX .. 't:' .. id
    end
  end
  local found = get_many(keys)
  for n, id in ipairs(missing) do
    if found[n] then
      records[id] = cmsgpack.unpack(found[n])
    end
  end
end

-- Put a member into an index, or take it out (score false), at the end of the script.
local function enter(index, member, score)
  local members = entries[index]
  if not members then
    members = {}
    entries[index] = members
  end
  members[member] = score
end

local function count(queue, status, change)
  local field = queue .. ':' .. status
  counted[field] = (counted[field] or 0) + change
end

-- Take a task out of where its state put it.
local function lift(id, task)
  local status, queue, member = task[STATUS], task[QUEUE], task[PLACE] .. id
  if status == 'running' then
    enter('leased:' .. queue, member, false)
    enter('ready:' .. queue, member, false)
  elseif status == 'pending' then
    enter('ready:' .. queue, member, false)
  elseif status == 'scheduled' then
    enter('delayed:' .. queue, member, false)
  elseif FINAL[status] then
    enter('finished', id, false)
  end
  count(queue, status, -1)
end

-- Put a task where its state belongs, and remember to write it.
local function place(id, task)
  local status, queue, member = task[STATUS], task[QUEUE], task[PLACE] .. id
  if status == 'running' then
    enter('leased:' .. queue, member, task[DUE])
  elseif status == 'pending' then
    enter('ready:' .. queue, member, 0)
    woken[queue] = true
  elseif status == 'scheduled' then
    enter('delayed:' .. queue, member, task[DUE])
    woken[queue] = true
  elseif FINAL[status] then
    enter('finished', id, task[FINISHED])
    if task[WATCHED] then
      ended[#ended + 1] = id
    end
  end
  count(queue, status, 1)
  changed[id] = true
end

local function write_records()
  local values, n = {}, 0
  for id in pairs(changed) do
    values[n + 1] = PREFIX .. 't:' .. id
    values[n + 2] = cmsgpack.pack(records[id])
    n = n + 2
  end
  changed = {}
  call_many('MSET', nil, values, 2)
end

local function write_indexes()
  for index, members in pairs(entries) do
    local added, gone, a, g = {}, {}, 0, 0
    for member, score in pairs(members) do
      if score then
        added[a + 1] = score
        added[a + 2] = member
        a = a + 2
      else
        g = g + 1
        gone[g] = member
      end
    end
    call_many('ZREM', PREFIX .. index, gone)
    call_many('ZADD', PREFIX .. index, added, 2)
  end
  entries = {}
end

local function write_counts()
  for field, change in pairs(counted) do
    if change ~= 0 and redis.call('HINCRBY', PREFIX .. 'counts', field, change) == 0 then
      redis.call('HDEL', PREFIX .. 'counts', field)
    end
  end
  counted = {}
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
  for queue in pairs(woken) do
    wake(queue)
  end
  tell_watchers()
end

-- lifecycle._ended
local function finish(task, status, now, reason)
  task[STATUS], task[TOKEN], task[DUE] = status, '', -1
  task[FINISHED], task[UNFINISHED], task[ERROR] = now, 0, reason
end

-- lifecycle._ready
local function make_ready(task, now)
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
local function parent_finished(child, parent_id, status, now)
  if status ~= 'completed' and child[RELEASES] == 0 then
    finish(child, 'cancelled', now, parent_reason(parent_id, status))
    return
  end
  child[UNFINISHED] = math.max(0, child[UNFINISHED] - 1)
  if child[UNFINISHED] == 0 then
    make_ready(child, now)
  end
end

-- Tell each child of a task that is final by now, and theirs if that ends them too.
local function settle_children(id, now)
  local final, n = { id }, 1
  while final[n] do
    local parent = records[final[n]]
    if parent[HAS_CHILDREN] then
      local key = PREFIX .. 'children:' .. final[n]
      local children = redis.call('LRANGE', key, 0, -1)
      redis.call('DEL', key)
      parent[HAS_CHILDREN] = false
      changed[final[n]] = true
      load(children)
      for _, child_id in ipairs(children) do
        local child = records[child_id]
        if child and child[STATUS] == 'waiting' then
          lift(child_id, child)
          parent_finished(child, final[n], parent[STATUS], now)
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
local function with_payloads(ids)
  local keys, answer = {}, {}
  for n, id in ipairs(ids) do
    keys[n] = PREFIX .. 'p:' .. id
  end
  local payloads = get_many(keys)
  for n, id in ipairs(ids) do
    answer[3 * n - 2] = id
    answer[3 * n - 1] = cmsgpack.pack(records[id])
    answer[3 * n] = payloads[n]
  end
  return answer
end
