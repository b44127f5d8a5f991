-- Store results. ARGV: microseconds the store keeps a result after its end (grace), the batch, the
-- lengths of the data, the data. The batch is flat: a task id, a claim_count and the end of its life (or
-- '') for each result. Returns one character a result: '1' stands now, '0' one of a later claim stood already.
local now, grace = server_now(), tonumber(ARGV[1])
local IDS, ENDS = PREFIX .. 'results', PREFIX .. 'results:ends'

local batch, data = cmsgpack.unpack(ARGV[2]), cut(ARGV[4], cmsgpack.unpack(ARGV[3]))

local keys = {}
for n = 1, #data do
  keys[n] = PREFIX .. 'result:' .. batch[3 * n - 2]
end
local stored = get_many(keys)

-- When the server deletes a result that ends at this moment, also as a text for it: most results of a
-- batch end together.
local deletions, deletion_texts = {}, {}
local function deletion_of(ends_at)
  if not deletions[ends_at] then
    deletions[ends_at] = math.max(tonumber(ends_at), now) + grace
    deletion_texts[ends_at] = whole(math.floor(deletions[ends_at] / 1000))
  end
  return deletions[ends_at], deletion_texts[ends_at]
end

local answers, ids, ends, unlimited, last, claims = {}, {}, {}, {}, 0, {}
for n = 1, #keys do
  local id, claim, ends_at = batch[3 * n - 2], batch[3 * n - 1], batch[3 * n]
  local known = claims[id]
  if not known and stored[n] then
    known = parted(stored[n], now)
  end
  if known and known > claim then
    answers[n] = '0'
  else
    answers[n], claims[id] = '1', claim
    local value = claim .. ':' .. ends_at .. ':' .. data[n]
    ids[#ids + 1] = '0'
    ids[#ids + 1] = id
    if ends_at == '' then
      redis.call('SET', keys[n], value)
      unlimited[#unlimited + 1] = id
    else
      local kept_until, text = deletion_of(ends_at)
      redis.call('SET', keys[n], value, 'PXAT', text)
      ends[#ends + 1] = ends_at
      ends[#ends + 1] = id
      last = math.max(last, kept_until)
    end
  end
end

-- Forget ids whose results the server deleted: the index must not outgrow the results.
local gone = redis.call('ZRANGEBYSCORE', ENDS, '-inf', whole(now - grace), 'LIMIT', 0, 2 * #keys)
local absent = {}
for _, id in ipairs(gone) do
  if not claims[id] and redis.call('EXISTS', PREFIX .. 'result:' .. id) == 0 then
    absent[#absent + 1] = id
  end
end
call_many('ZREM', ENDS, absent)
call_many('ZREM', IDS, absent)

-- The index lives as long as its longest result: for ever, once one has no end.
local left = redis.call('PTTL', IDS)
call_many('ZREM', ENDS, unlimited)
call_many('ZADD', IDS, ids, 2)
call_many('ZADD', ENDS, ends, 2)
if #unlimited > 0 then
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
