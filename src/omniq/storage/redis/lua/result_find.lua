-- A page of results by task id. ARGV: now (or ''), the id before the page (or ''), how many, how many
-- to look at. Returns the last id looked at ('' at the end), then the data of those not expired.
local now, cursor, limit, looks = moment(ARGV[1]), ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local answers = { '' }
while looks > 0 do
  local first = cursor == '' and '-' or '(' .. cursor
  local step = math.min(looks, 500)
  local ids = redis.call('ZRANGEBYLEX', IDS, first, '+', 'LIMIT', 0, step)
  local found = fetch(ids)
  for n = 1, #ids do
    local _, start = nil, nil
    if found[n] then
      _, start = parted(found[n], now)
    end
    if start then
      answers[#answers + 1] = string.sub(found[n], start)
      if #answers > limit then
        answers[1] = ids[n]
        return answers
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
