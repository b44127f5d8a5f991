-- Insert tasks. ARGV: now (or ''), the name of this write, the batch, the lengths of the payloads, the
-- payloads; then, if the tasks have events, those of `put_events`. An item of the batch is an id, a
-- record and the ids of its parents. Returns for each task the id that stands for it, and '1' if that
-- task was stored.
local nonce, batch = ARGV[2], cmsgpack.unpack(ARGV[3])
local data = cut(ARGV[5], cmsgpack.unpack(ARGV[4]))
now = moment(ARGV[1])

local ids = {}
for _, item in ipairs(batch) do
  ids[#ids + 1] = item[1]
  for _, parent_id in ipairs(item[3]) do
    ids[#ids + 1] = parent_id
  end
end
load(ids)

-- lifecycle.admit; returns the parents it has to wait for.
local function admit(task, parents)
  local unfinished = {}
  if FINAL[task[STATUS]] then
    task[TOKEN], task[DUE] = '', -1
    task[FINISHED] = task[FINISHED] == -1 and now or task[FINISHED]
    return unfinished
  end
  task[TOKEN], task[WORKER], task[FINISHED] = '', '', -1
  task[UNFINISHED] = 0
  for _, parent_id in ipairs(parents) do
    local parent = records[parent_id]
    local status = parent and parent[STATUS] or 'cancelled'
    if not FINAL[status] then
      task[UNFINISHED] = task[UNFINISHED] + 1
      unfinished[#unfinished + 1] = parent_id
    elseif status ~= 'completed' and task[RELEASES] == 0 then
      finish(task, 'cancelled', parent_reason(parent_id, status))
      return {}
    end
  end
  if task[UNFINISHED] > 0 then
    task[STATUS], task[DUE] = 'waiting', -1
  else
    make_ready(task)
  end
  return unfinished
end

local function wait_for(id, task, parents)
  for _, parent_id in ipairs(parents) do
    redis.call('RPUSH', PREFIX .. 'children:' .. parent_id, id)
    records[parent_id][HAS_CHILDREN] = true
    note_change(parent_id)
  end
  task[PARENTS] = table.concat(parents, ' ')
end

local answer, payloads, own = {}, {}, {}
for n, item in ipairs(batch) do
  local id, task = item[1], item[2]
  local holder, stored = id, false
  if records[id] then
    stored = records[id][NONCE] == nonce .. ':' .. n and not own[id]
  else
    local unfinished = admit(task, item[3])
    if not FINAL[task[STATUS]] then
      holder = take_key(id, task)
    end
    if holder == id then
      stored, own[id] = true, true
      task[NONCE] = nonce .. ':' .. n
      records[id] = task
      wait_for(id, task, unfinished)
      place(id, task)
      add(IDS_INDEX, '0', id)
      payloads[#payloads + 1] = id
      payloads[#payloads + 1] = data[n]
    end
  end
  answer[2 * n - 1] = holder
  answer[2 * n] = stored and '1' or '0'
end
call_many('HSET', PAYLOADS, payloads, 2)
write_all()
if #ARGV > 5 then
  put_events(6, own)
end
return answer
