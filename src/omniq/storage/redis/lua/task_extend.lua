-- Extend leases. ARGV: now (or ''), microseconds, the batch: ids with claim_count and token. Returns
-- id, record and payload of each task still held.
now = moment(ARGV[1])
local ends_at = now + tonumber(ARGV[2])
local batch = cmsgpack.unpack(ARGV[3])

local ids = {}
for n, item in ipairs(batch) do
  ids[n] = item[1]
end
load(ids)

local held = {}
for _, item in ipairs(batch) do
  local id = item[1]
  local task = records[id]
  if task and task[STATUS] == 'running' and task[CLAIMS] == item[2] and task[TOKEN] == item[3] then
    lift(id, task)
    task[DUE] = ends_at
    place(id, task)
    held[#held + 1] = id
  end
end
write_all()
return with_payloads(held, {})
