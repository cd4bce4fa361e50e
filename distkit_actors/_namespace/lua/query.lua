-- Gives a page of what the namespace holds; changes nothing.
--
-- KEYS  see included/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance, '' for an onlooker
--       3 kind: instances, slices, keys, values or held; 4 key (slices), instance (held)
--       5 cursor: '' for the first page, else what the page before said
--       6 '' if an instance asks; else up to which steady time the asker has observed the
--         namespace itself, -1 if it has just come (P43, looking)
--       7 … keys (values)
-- Reply {surveyed, cursor or '' at the end, steady time of the judgement, over how many parts the
--   namespace is spread or 0 if nobody is there, name, number, flag, …}; a name may come twice
--   instances: id, microseconds since its last sign of life, '1' if it counts as alive, else '0',
--              and behind that its incarnation, a blank, and what it says of itself, with padding
--   slices:    id, value, '1' if the instance counts as alive
--   keys:      key, cumulative, '1'
--   values:    key, cumulative, '1'; then key, slice, '0' for each slice of one who does not
--              count as alive
--   held:      key, slice, '1'
--@include numbers
--@include announce
--@include base
--@include archive
--@include space
--@include observed
--@include sums

local PAGE = 500
-- How many slices of the dead a page looks at, about (P5, bounded pieces). Each of the dead costs
-- as much as HASH slices.
local LOOKS, HASH, FEWEST = 4500, 4, 8
take_space()
local kind, cursor = ARGV[3], ARGV[5] == '' and '0' or ARGV[5]
local judged_at = seen_by(ARGV[6])
-- If its own fields are lost, nobody is there: what records are left is in no sum.
local is_there = space.born > 0
local partitions = (not is_there or call('ZCARD', H) == 0) and 0 or math.max(1, space.parts)
local reply = {QUERIED, '', text(judged_at), text(partitions)}

local function row(name, number, flag)
  reply[#reply + 1] = name
  reply[#reply + 1] = number
  reply[#reply + 1] = flag
end

-- Tells whether the asker shall take a living instance for alive. `heard`: its `HEARD`.
local function counts_as_alive(heard)
  if ARGV[6] == '' then
    return is_seen_alive(heard, ARGV[2])
  end
  return judge_silence(heard, judged_at) > 0
end

local function look_at_instance(name)
  local heard = call('HMGET', hash_of(name), ':thr', ':int', ':beat', ':lost', ':graced', ':inc',
    ':state', ':pad')
  if heard[6] and heard[6] ~= '0' then  -- else it is an orphan (P18, empty ground)
    local alive = heard[7] == LIVE and counts_as_alive(heard)
    local age = text(math.max(0, steady() - heard[3]))
    row(name, age, (alive and '1' or '0') .. heard[6] .. ' ' .. (heard[8] or ''))
  end
end

local function look_at_slice(name, epoch)
  local heard = call('HMGET', hash_of(name), ':thr', ':int', ':beat', ':lost', ':graced', ':state',
    ARGV[4])
  if heard[7] then
    local value, stamp = parse(heard[7])
    if stamp >= epoch then
      row(name, value, heard[6] == LIVE and counts_as_alive(heard) and '1' or '0')
    end
  end
end

-- Rows for those of the `slices` of `keys` that count.
local function give_slices(keys, slices, epochs, flag)
  for index, key in ipairs(keys) do
    local slice = slices[index]
    if slice then
      local value, stamp = parse(slice)
      if stamp >= epochs[key] then
        row(key, value, flag)
      end
    end
  end
end

-- Gives the sums of some keys, and the slices in them of the dead that are not reaped yet. The
-- dead are the reap queue, and behind it those of the overdue that do not count as alive. Slices
-- may be taken away between two pages. So a page has all that is to be known of its keys: with
-- many dead it has few keys. Where it would have fewer than FEWEST of those that were asked for,
-- the dead come in several pages, too. The cursor is how many keys are done, and behind a blank
-- how many of the dead have been looked at for the next ones. Returns the next cursor.
local function look_at_values()
  local done, first = string.match(cursor, '^(%d+) ?(%d*)$')
  done, first = tonumber(done), tonumber(first) or 0
  local all, queued, overdue = #ARGV - 6, 0, {}
  if is_there and all > 0 then
    queued = call('ZCARD', D)
    overdue = call('ZRANGEBYSCORE', A, '-inf', text(judged_at), 'LIMIT', 0, first + LOOKS)
  end
  local dead = queued + #overdue
  local fit = dead == 0 and all or math.floor(LOOKS / dead) - HASH
  local keys = {unpack(ARGV, 7 + done, math.min(#ARGV, 6 + done + math.max(FEWEST, fit)))}
  local most = math.floor(LOOKS / (#keys + HASH))
  if first == 0 then
    for index, total in ipairs(spread('HMGET', N, keys)) do
      row(keys[index], total or '0', '1')
    end
  end
  if not is_there then
    return '0'
  end
  local epochs = epochs_of(keys)
  for _, name in ipairs(call('ZRANGE', D, first, first + most - 1)) do
    give_slices(keys, spread('HMGET', hash_of(name), keys), epochs, '0')
  end
  local fields = {unpack(HEARD)}
  for _, key in ipairs(keys) do
    fields[#fields + 1] = key
  end
  for index = math.max(0, first - queued) + 1, math.min(first + most, dead) - queued do
    local found = spread('HMGET', hash_of(overdue[index]), fields)
    if found[1] and not counts_as_alive(found) then
      give_slices(keys, {unpack(found, #HEARD + 1, #fields)}, epochs, '0')
    end
  end
  if first + most < dead then
    return done .. ' ' .. first + most
  end
  done = done + #keys
  return done < all and tostring(done) or '0'
end

local function look_at_held()
  local page = call('HSCAN', hash_of(ARGV[4]), cursor, 'COUNT', PAGE)
  local keys, slices = {}, {}
  for index = 1, #page[2], 2 do
    if string.byte(page[2][index]) ~= COLON then
      keys[#keys + 1] = page[2][index]
      slices[#keys] = page[2][index + 1]
    end
  end
  give_slices(keys, slices, epochs_of(keys), '1')
  return page[1]
end

if kind == QUERY_VALUES then
  cursor = look_at_values()
elseif not is_there then
  cursor = '0'
elseif kind == QUERY_HELD then
  cursor = look_at_held()
elseif kind == QUERY_KEYS then
  local page = call('HSCAN', N, cursor, 'COUNT', PAGE)
  for index = 1, #page[2], 2 do
    if string.byte(page[2][index]) ~= COLON then
      row(page[2][index], page[2][index + 1], '1')
    end
  end
  cursor = page[1]
else
  local page = call('ZSCAN', H, cursor, 'COUNT', PAGE)
  local epoch = kind == QUERY_SLICES and epochs_of({ARGV[4]})[ARGV[4]]
  for index = 1, #page[2], 2 do
    if epoch then
      look_at_slice(page[2][index], epoch)
    else
      look_at_instance(page[2][index])
    end
  end
  cursor = page[1]
end
reply[2] = cursor == '0' and '' or cursor
return reply
