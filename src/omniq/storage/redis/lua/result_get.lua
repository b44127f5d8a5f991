-- Read results. ARGV: now (or ''), task ids. Returns for each its data, or false where absent.
local now, keys = moment(ARGV[1]), {}
for position = 2, #ARGV do
  keys[#keys + 1] = PREFIX .. 'result:' .. ARGV[position]
end
local found = get_many(keys)
for n = 1, #keys do
  if found[n] then
    local ends_at, start = string.match(found[n], '^%d+:(%d*):()')
    found[n] = (ends_at == '' or tonumber(ends_at) > now) and string.sub(found[n], start)
  end
end
return found
