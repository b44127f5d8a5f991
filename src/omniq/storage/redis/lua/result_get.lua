-- Read results. ARGV: now (or ''), task ids. Returns for each its data, or false where absent.
local now = moment(table.remove(ARGV, 1))
local found = fetch(ARGV)
for n = 1, #ARGV do
  if found[n] then
    local _, start = parted(found[n], now)
    found[n] = start and string.sub(found[n], start) or false
  end
end
return found
