-- Read results. ARGV: now (or ''), task ids. Returns for each its data, or false where absent.
local now, keys = moment(ARGV[1]), keys_of(ARGV, 2)
local found = get_many(keys)
for n = 1, #keys do
  if found[n] then
    local _, start = parted(found[n], now)
    found[n] = start and string.sub(found[n], start) or false
  end
end
return found
