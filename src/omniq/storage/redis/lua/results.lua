-- Shared by the scripts about results.
--
--   results           all ids in order
--   results:ends      ids by the end of their life, those that have one
--   results:<second>  by id the results whose lives end in this second of the clock. The server deletes
--                     them together, some time (grace) after that
--   results:kept      by id the results without an end
--
-- A result is its claim_count, the end of its life (or nothing) and its data, with colons between them.
local IDS, ENDS = PREFIX .. 'results', PREFIX .. 'results:ends'
local KEPT = PREFIX .. 'results:kept'
local SECOND = 1000000

-- The claim_count of a stored result and where its data starts; nothing if it has expired.
local function parted(value, now)
  local claim, ends_at, start = string.match(value, '^(%d+):(%d*):()')
  if ends_at == '' or tonumber(ends_at) > now then
    return tonumber(claim), start
  end
end

-- Where a result with this end (false: none) is stored, and the end of that second; each name is made once.
local shelves = {}
local function shelf_of(ends_at)
  if not ends_at then
    return KEPT
  end
  local second = math.ceil(tonumber(ends_at) / SECOND)
  local shelf = shelves[second]
  if not shelf then
    shelf = PREFIX .. 'results:' .. whole(second)
    shelves[second] = shelf
  end
  return shelf, second * SECOND
end

-- The places in `ids` that share a shelf, by shelf; `ends` are the ends of their lives.
local function by_shelf(ids, ends)
  local places = {}
  for n = 1, #ids do
    local shelf = shelf_of(ends[n])
    places[shelf] = places[shelf] or {}
    table.insert(places[shelf], n)
  end
  return places
end

local function picked(list, places)
  local found = {}
  for n = 1, #places do
    found[n] = list[places[n]]
  end
  return found
end

-- The stored results of these ids (false where there is none), and the ends of their lives.
local function fetch(ids)
  local ends, values = get_many(ENDS, ids, 'ZMSCORE'), {}
  for shelf, places in pairs(by_shelf(ids, ends)) do
    local found = get_many(shelf, picked(ids, places))
    for n = 1, #places do
      values[places[n]] = found[n]
    end
  end
  return values, ends
end

-- Delete the results of these ids, which have these ends.
local function forget(ids, ends)
  for shelf, places in pairs(by_shelf(ids, ends)) do
    call_many('HDEL', shelf, picked(ids, places))
  end
  call_many('ZREM', IDS, ids)
  call_many('ZREM', ENDS, ids)
end
