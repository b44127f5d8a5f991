-- Shared by the scripts about results.
--
--   result:<task id>  claim_count, end of its life (or nothing) and data, with colons between them
--   results           all ids in order
--   results:ends      ids by the end of their life, those that have one

-- The claim_count of a stored result and where its data starts; nothing if it has expired.
local function parted(value, now)
  local claim, ends_at, start = string.match(value, '^(%d+):(%d*):()')
  if ends_at == '' or tonumber(ends_at) > now then
    return tonumber(claim), start
  end
end

local function keys_of(ids, first)
  local keys = {}
  for n = first or 1, #ids do
    keys[#keys + 1] = PREFIX .. 'result:' .. ids[n]
  end
  return keys
end
