-- Storing results. Part of the script that does nothing else, and of the one that ends tasks.

-- Which results of a batch stand: by id the place of the last one that no later claim outdoes. And one
-- character a result: '1' stands now, '0' one of a later claim stood already.
local function outdoing(ids, claims, stored, now)
  local marks, standing, best = {}, {}, {}
  for n = 1, #ids do
    local id = ids[n]
    local known = best[id]
    if not known and stored[n] then
      known = parted(stored[n], now)
    end
    if known and known > claims[n] then
      marks[n] = '0'
    else
      marks[n], best[id], standing[id] = '1', claims[n], n
    end
  end
  return standing, table.concat(marks)
end

-- Forget the ids whose results the server deleted, so that the index does not outgrow the results, and
-- those in `old`, which are stored anew.
local function forget_gone(old, old_ends, standing, most, before)
  local gone = redis.call(
    'ZRANGEBYSCORE', ENDS, '-inf', whole(before), 'WITHSCORES', 'LIMIT', 0, most
  )
  local is_gone = {}
  for n = 1, #gone, 2 do
    local shelf = shelf_of(gone[n + 1])
    if is_gone[shelf] == nil then
      is_gone[shelf] = redis.call('EXISTS', shelf) == 0
    end
    if is_gone[shelf] and not standing[gone[n]] then
      old[#old + 1] = gone[n]
      old_ends[#old] = gone[n + 1]
    end
  end
  forget(old, old_ends)
end

-- Fill shelves, given what goes on each and the end of its second; return until when the last is kept.
local function fill(shelves_of, deadlines, now, grace)
  local last = 0
  for shelf, fields in pairs(shelves_of) do
    call_many('HSET', shelf, fields, 2)
    if deadlines[shelf] then
      local kept_until = math.max(deadlines[shelf], now) + grace
      redis.call('PEXPIREAT', shelf, whole(math.ceil(kept_until / 1000)))
      last = math.max(last, kept_until)
    end
  end
  return last
end

-- Add to the indexes. They live as long as their longest result: for ever, once one has no end.
local function note_results(ids, ends, is_endless, last, now)
  local left = redis.call('PTTL', IDS)
  call_many('ZADD', IDS, ids, 2)
  call_many('ZADD', ENDS, ends, 2)
  if is_endless then
    redis.call('PERSIST', IDS)
    redis.call('PERSIST', ENDS)
  elseif left == -2 or (left >= 0 and now / 1000 + left < last / 1000) then
    local until_ms = whole(math.floor(last / 1000) + 1)
    redis.call('PEXPIREAT', IDS, until_ms)
    redis.call('PEXPIREAT', ENDS, until_ms)
  elseif left == -1 then
    redis.call('PERSIST', ENDS)
  end
end

-- Store results. The arguments from `first` on: microseconds the store keeps a result after its end
-- (grace), the batch, the lengths of the data, the data. The batch is flat: a task id, a claim_count and
-- the end of its life (or '') for each result. Returns the marks of `outdoing`.
local function put_results(first)
  local time, grace = server_now(), tonumber(ARGV[first])
  local batch = cmsgpack.unpack(ARGV[first + 1])
  local data = cut(ARGV[first + 3], cmsgpack.unpack(ARGV[first + 2]))
  local wanted, claims = {}, {}
  for n = 1, #data do
    wanted[n], claims[n] = batch[3 * n - 2], batch[3 * n - 1]
  end
  local stored, stored_ends = fetch(wanted)
  local standing, marks = outdoing(wanted, claims, stored, time)
  local filled, deadlines, ids, ends, old, old_ends = {}, {}, {}, {}, {}, {}
  for id, n in pairs(standing) do
    local ends_at = batch[3 * n]
    local shelf, deadline = shelf_of(ends_at ~= '' and ends_at)
    local fields = filled[shelf] or {}
    filled[shelf], deadlines[shelf] = fields, deadline
    fields[#fields + 1] = id
    fields[#fields + 1] = claims[n] .. ':' .. ends_at .. ':' .. data[n]
    ids[#ids + 1] = '0'
    ids[#ids + 1] = id
    if ends_at ~= '' then
      ends[#ends + 1] = ends_at
      ends[#ends + 1] = id
    end
    if stored[n] or stored_ends[n] then
      old[#old + 1] = id
      old_ends[#old] = stored_ends[n]
    end
  end
  forget_gone(old, old_ends, standing, 2 * #data, time - grace)
  local last = fill(filled, deadlines, time, grace)
  note_results(ids, ends, filled[KEPT], last, time)
  return marks
end
