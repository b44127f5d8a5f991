-- Compare-and-swap tasks. ARGV: now (or ''), the name of this write, the batch. An item is an id, the
-- claim_count, token and status the caller saw, and the new state. Returns one character a change:
-- '1' applied, '0' lost.
local nonce, batch = ARGV[2], cmsgpack.unpack(ARGV[3])
now = moment(ARGV[1])

local ids = {}
for n, item in ipairs(batch) do
  ids[n] = item[1]
end
load(ids)

local function holds(task, item)
  return task[CLAIMS] == item[2] and task[TOKEN] == item[3] and task[STATUS] == item[4]
end

-- lifecycle.merge_running
local function merge_running(task, state)
  if state[STATUS] == 'running' then
    state[DUE] = task[DUE]
  end
  if not FINAL[state[STATUS]] then
    state[CANCEL] = math.max(task[CANCEL], state[CANCEL])
  end
end

local function apply(id, task, state)
  if task[STATUS] == 'running' then
    merge_running(task, state)
  end
  local was_final, is_final = FINAL[task[STATUS]], FINAL[state[STATUS]]
  if was_final and not is_final and take_key(id, task) ~= id then
    return false
  end
  lift(id, task)
  if state[STATUS] == 'running' and task[STATUS] ~= 'running' then
    lane_of(task[QUEUE]).woken = true
  end
  for n = 1, STATE do
    task[n] = state[n]
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
for n, item in ipairs(batch) do
  local id = item[1]
  local task, name, applied = records[id], nonce .. ':' .. n, false
  if task and holds(task, item) then
    applied = apply(id, task, item[5])
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
