-- The events of one task as they were appended. ARGV: seconds events are kept, the task id. Returns
-- their data.
local found = {}
for _, day in ipairs(days(tonumber(ARGV[1]))) do
  for _, line in ipairs(history_of(day, ARGV[2])) do
    found[#found + 1] = line
  end
end
return found
