-- A page of results by task id. ARGV: now (or ''), the id before the page (or ''), how many, how many
-- to look at. Returns the last id looked at ('' at the end), then the data of those not expired.
local now, cursor, limit, looks = moment(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local answers = { '' }
while looks > 0 do
  local first = cursor == '' and '-' or '(' .. cursor
  local step = math.min(looks, 500)
  local ids = redis.call('ZRANGEBYLEX', PREFIX .. 'results', first, '+', 'LIMIT', 0, step)
  local keys = {}
  for n = 1, #ids do
    keys[n] = PREFIX .. 'result:' .. ids[n]
  end
  local found = get_many(keys)
  for n = 1, #ids do
    if found[n] then
      local ends_at, start = string.match(found[n], '^%d+:(%d*):()')
      if ends_at == '' or tonumber(ends_at) > now then
        answers[#answers + 1] = string.sub(found[n], start)
        if #answers > limit then
          answers[1] = ids[n]
          return answers
        end
      end
    end
  end
  if #ids < step then
    return answers
  end
  cursor, looks = ids[#ids], looks - step
end
answers[1] = cursor
return answers
