-- Delete results. ARGV: task ids. Returns how many there were, those expired not counted.
local now, deleted = server_now(), 0
local found, ends = fetch(ARGV)
local seen = {}
for n = 1, #ARGV do
  if found[n] and not seen[ARGV[n]] and parted(found[n], now) then
    deleted = deleted + 1
  end
  seen[ARGV[n]] = true
end
forget(ARGV, ends)
return deleted
