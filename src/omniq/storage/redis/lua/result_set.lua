-- Store results. ARGV: microseconds the store keeps a result after its end (grace), the batch, the
-- lengths of the data, the data. The batch is flat: a task id, a claim_count and the end of its life (or
-- '') for each result. Returns one character a result: '1' stands now, '0' one of a later claim stood already.
local now, grace = server_now(), tonumber(ARGV[1])
local batch, data = cmsgpack.unpack(ARGV[2]), cut(ARGV[4], cmsgpack.unpack(ARGV[3]))

local wanted = {}
for n = 1, #data do
  wanted[n] = batch[3 * n - 2]
end
local stored, old_ends = fetch(wanted)

-- Which of the batch stand: the last of each id that no later claim outdoes.
local answers, claims, standing = {}, {}, {}
for n = 1, #data do
  local id, claim = wanted[n], batch[3 * n - 1]
  local known = claims[id]
  if not known and stored[n] then
    known = parted(stored[n], now)
  end
  if known and known > claim then
    answers[n] = '0'
  else
    answers[n], claims[id], standing[id] = '1', claim, n
  end
end

-- What is to be stored, by shelf; what it takes the place of.
local fresh, deadlines = {}, {}
local ids, ends, old, old_of = {}, {}, {}, {}
for id, n in pairs(standing) do
  local ends_at = batch[3 * n] ~= '' and batch[3 * n]
  local shelf, deadline = shelf_of(ends_at)
  local fields = fresh[shelf] or {}
  fresh[shelf], deadlines[shelf] = fields, deadline
  fields[#fields + 1] = id
  fields[#fields + 1] = claims[id] .. ':' .. batch[3 * n] .. ':' .. data[n]
  ids[#ids + 1] = '0'
  ids[#ids + 1] = id
  if ends_at then
    ends[#ends + 1] = ends_at
    ends[#ends + 1] = id
  end
  if stored[n] or old_ends[n] then
    old[#old + 1] = id
    old_of[#old] = old_ends[n]
  end
end

-- Forget ids whose results the server deleted: the index must not outgrow the results.
local gone = redis.call('ZRANGEBYSCORE', ENDS, '-inf', whole(now - grace), 'LIMIT', 0, 2 * #data, 'WITHSCORES')
local is_gone = {}
for n = 1, #gone, 2 do
  local shelf = shelf_of(gone[n + 1])
  if is_gone[shelf] == nil then
    is_gone[shelf] = redis.call('EXISTS', shelf) == 0
  end
  if is_gone[shelf] and not standing[gone[n]] then
    old[#old + 1] = gone[n]
    old_of[#old] = gone[n + 1]
  end
end
forget(old, old_of)
local left = redis.call('PTTL', IDS)

local last = 0
for shelf, fields in pairs(fresh) do
  call_many('HSET', shelf, fields, 2)
  if deadlines[shelf] then
    local kept_until = math.max(deadlines[shelf], now) + grace
    redis.call('PEXPIREAT', shelf, whole(math.ceil(kept_until / 1000)))
    last = math.max(last, kept_until)
  end
end

-- The index lives as long as its longest result: for ever, once one has no end.
call_many('ZADD', IDS, ids, 2)
call_many('ZADD', ENDS, ends, 2)
if fresh[KEPT] then
  redis.call('PERSIST', IDS)
  redis.call('PERSIST', ENDS)
elseif last > 0 then
  local until_ms = whole(math.floor(last / 1000) + 1)
  if left == -2 or (left >= 0 and now / 1000 + left < last / 1000) then
    redis.call('PEXPIREAT', IDS, until_ms)
    redis.call('PEXPIREAT', ENDS, until_ms)
  elseif left == -1 then
    redis.call('PERSIST', ENDS)
  end
end
return table.concat(answers)
