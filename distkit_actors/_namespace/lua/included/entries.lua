-- Needs: numbers, base, archive, space, sums, registry, step, journal, forgetting; of the script:
--   FIRST, SINCE

-- What the entries of a step do.

local moved_keys = {}  -- whose epochs this step moves, each once; and as names

-- Notes the own slice of a key; a 0 is none (P3, zero is absence).
local function write_own(key, value, stamp)
  own[key] = value ~= '0' and value .. '@' .. stamp
  if not written[key] then
    written[key] = true
    written[#written + 1] = key
  end
end

-- Notes a slice that may be new: a stamp that is used is never given out again (P6, one clock).
-- Most slices of a step get the same stamp, so its digits are made once.
local last_stamp, last_digits
local function make_own(key, value, stamp)
  if value ~= '0' then
    space.clock = math.max(space.clock, stamp)
  end
  if stamp ~= last_stamp then
    last_stamp, last_digits = stamp, digits(stamp)
  end
  write_own(key, value, last_digits)
end

-- Adds to the sum and to the own slice, which the caller knows the new value of (P2, exact
-- integers). `kept` is the stamp of that slice, if there is one; else a new one gets `stamp`. A
-- claim may make an existing slice older.
local function add_own(key, value, after, kept, stamp)
  if not kept then
    after = value
  end
  if after == '' or value ~= '0' and not add(key, value) then
    return false
  elseif kept then
    write_own(key, after, tonumber(kept) > stamp and digits(stamp) or kept)
  else
    make_own(key, value, stamp)
  end
  return true
end

-- Runs one entry at stamp `at`; returns its result. `epochs` is for claims only, `moved` is
-- {key = true} for guarded entries that must not be executed.
local function run(word, key, value, after, at, epochs, moved)
  local total, slice, kept = total_of(key), '0', nil
  if own[key] then
    slice, kept = split(own[key])
  end
  local kind, more = string.sub(word, 1, 1), string.sub(word, 2)
  if string.sub(more, 1, 1) == GUARDED then
    if moved[key] then
      return MOVED
    end
    more = string.sub(more, 2)
  end
  if more ~= '' then
    local current = string.sub(more, 1, 1) == OF_OWN and slice or total
    if not holds(current, string.sub(more, 2, 3), string.sub(more, 4)) then
      return total .. ',' .. slice .. UNMET
    end
  end
  if kind == ADD or kind == FOLDED then
    -- The limit of what is folded has one digit more (P13, values before).
    if kind == FOLDED and #string.gsub(total, '-', '') > FOLD_DIGITS then
      return SPLIT
    elseif value ~= '0' and not add_own(key, value, after, kept, at) then
      return REFUSED
    end
  elseif kind == PUT then
    if not replace(key, slice, value) then
      return REFUSED
    end
    if kept then
      write_own(key, value, kept)
    else
      make_own(key, value, at)
    end
  elseif kind == MOVE then
    set_sum(key, value)
    make_own(key, value, at)
    if not moved_keys[key] then
      moved_keys[key] = true
      moved_keys[#moved_keys + 1] = key
    end
    epochs[key] = at
    space.latest, space.clock = at, math.max(space.clock, at)
  elseif kind == CLEAR then
    forget_sums()
    local archive = open_archive(space.segments)
    call('UNLINK', M, L, unpack(archive.hashes(archive.segments)))
    space.segments = ''
    sweep_own(at)
    moved_keys = {}
    space.clear, space.latest, space.clock = at, at, math.max(space.clock, at)
  elseif kind == FORGET then
    if value == instance then
      return REFUSED
    end
    local left, gone = forget(value)
    return left .. ',' .. gone
  else
    local amount, stamp = parse(value)
    if math.max(tonumber(SINCE), stamp) < space.floor
      or stamp < math.max(space.clear, epochs[key] or 0) then
      return MOVED
    elseif not add_own(key, amount, after, kept, stamp) then
      return REFUSED
    end
  end
  return total .. ',' .. slice
end

-- Makes everything as it was before the entries of a step that adds and replaces.
local function undo(totals, slices, clock)
  for key, total in pairs(totals) do
    put_sum(key, total)
  end
  own, written = slices, {}
  space.clock = clock
end

-- Runs all entries; returns their results in one string. If they are `atomic` it runs all or,
-- where one is refused, none (P34, all or none).
local function run_all(at, moved, atomic)
  local totals, slices, clock = {}, {}, space.clock
  if atomic then
    for _, key in ipairs(keys) do
      totals[key], slices[key] = total_of(key), own[key]
    end
  end
  local claimed = {}
  for index = FIRST, #ARGV, 4 do
    if string.sub(ARGV[index], 1, 1) == CLAIM then
      claimed[#claimed + 1] = ARGV[index + 1]
    end
  end
  local epochs, results = all_epochs_of(claimed), {}
  for index = FIRST, #ARGV, 4 do
    results[#results + 1] = run(ARGV[index], ARGV[index + 1], ARGV[index + 2],
      ARGV[index + 3], at, epochs, moved)
  end
  local joined = table.concat(results, ';')
  if atomic and string.find(joined, REFUSED, 1, true) then
    undo(totals, slices, clock)
    joined = string.gsub(joined, '[^;' .. REFUSED .. ']+', UNDONE)
  end
  return joined
end
