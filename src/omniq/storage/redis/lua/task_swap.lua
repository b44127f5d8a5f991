-- Compare-and-swap tasks. ARGV: now (or ''), the name of this write, the batch; then, if results are to
-- be stored first, those of `put_results`. The batch is flat: for each change an id, the claim_count, token and status the caller saw, and the new state. Returns one
-- character a change: '1' applied, '0' lost.
if #ARGV > 3 then
  put_results(4)
end
local nonce, batch = ARGV[2], cmsgpack.unpack(ARGV[3])
now = moment(ARGV[1])

local SEEN = 4 -- so many fields before the state
local ids, first = {}, {}
for start = 1, #batch, SEEN + STATE do
  ids[#ids + 1], first[#first + 1] = batch[start], start
end
load(ids)

local function holds(task, start)
  return task[CLAIMS] == batch[start + 1]
    and task[TOKEN] == batch[start + 2]
    and task[STATUS] == batch[start + 3]
end

-- lifecycle.merge_running
local function merge_running(task, status, before)
  if status == 'running' then
    batch[before + DUE] = task[DUE]
  end
  if not FINAL[status] then
    batch[before + CANCEL] = math.max(task[CANCEL], batch[before + CANCEL])
  end
end

-- Give a task the state that follows the place `before` in the batch.
local function apply(id, task, before)
  local status = batch[before + STATUS]
  if task[STATUS] == 'running' then
    merge_running(task, status, before)
  end
  local was_final, is_final = FINAL[task[STATUS]], FINAL[status]
  if was_final and not is_final and take_key(id, task) ~= id then
    return false
  end
  lift(id, task)
  if status == 'running' and task[STATUS] ~= 'running' then
    lane_of(task[QUEUE]).woken = true
  end
  for n = 1, STATE do
    task[n] = batch[before + n]
  end
  place(id, task)
  if is_final then
    if not was_final then
      free_key(task)
    end
    settle_children(id)
  end
  return true
end

local answer = {}
for n = 1, #ids do
  local id, start = ids[n], first[n]
  local task, name, applied = records[id], nonce .. ':' .. n, false
  if task and holds(task, start) then
    applied = apply(id, task, start + SEEN - 1)
    if applied then
      task[NONCE] = name
    end
  elseif task then
    applied = task[NONCE] == name
  end
  answer[n] = applied and '1' or '0'
end
write_all()
return table.concat(answer)
