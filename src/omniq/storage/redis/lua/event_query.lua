-- A page of events in the order of their moments (ties: of appending). ARGV: seconds events are
-- kept, lowest and highest score, moment and serial number of the event before the page (or ''), how
-- many to look at, '1' for newest first, a type (or ''). Returns moment and serial number of the last
-- event looked at ('' at the end), then the data of those that match.
local low, high, limit, newest, wanted = ARGV[2], ARGV[3], tonumber(ARGV[6]), ARGV[7] == '1', ARGV[8]
local cursor_at, cursor_serial = tonumber(ARGV[4]), ARGV[5]
if cursor_at and newest then
  high = ARGV[4]
elseif cursor_at then
  low = ARGV[4]
end

local function is_past(at, serial)
  if at ~= cursor_at then
    return false
  end
  if newest then
    return serial >= cursor_serial
  end
  return serial <= cursor_serial
end

local function range(index, offset)
  if newest then
    return redis.call('ZREVRANGEBYSCORE', index, high, low, 'WITHSCORES', 'LIMIT', offset, limit)
  end
  return redis.call('ZRANGEBYSCORE', index, low, high, 'WITHSCORES', 'LIMIT', offset, limit)
end

local page = {}
for _, day in ipairs(days(tonumber(ARGV[1]))) do
  local offset, taken, rows = 0, 0, nil
  repeat
    rows = range(index_of(day), offset)
    for n = 1, #rows, 2 do
      local at, serial = tonumber(rows[n + 1]), string.sub(rows[n], 1, SERIAL)
      if not is_past(at, serial) then
        page[#page + 1] = { at, serial, rows[n], day }
        taken = taken + 1
      end
    end
    offset = offset + limit
  until taken >= limit or #rows < 2 * limit
end
table.sort(page, function(one, other)
  if one[1] ~= other[1] then
    return (one[1] < other[1]) ~= newest
  end
  return one[2] ~= other[2] and (one[2] < other[2]) ~= newest
end)

local answers = { '', '' }
for n = 1, math.min(limit, #page) do
  local serial, kind, id = parted(page[n][3])
  if wanted == '' or kind == wanted then
    answers[#answers + 1] = history_of(page[n][4], id, serial)[1]
  end
end
if #page >= limit then
  answers[1], answers[2] = whole(page[limit][1]), page[limit][2]
end
return answers
