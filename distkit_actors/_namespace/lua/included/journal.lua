-- Needs: base, space, sums, step; of the script: FIRST, SINCE, restarts

-- The moves of epochs that an instance has still to hear of, and its slices that they made void.

-- Removes own slices that a move of their epoch made void; they are in no sum.
local function drop_own(gone)
  if #gone > 0 then
    guard()
    spread('HDEL', I, gone)
    for _, key in ipairs(gone) do
      own[key] = false
    end
  end
end

-- Removes every slice of an instance hash at once, as all are older than a clear; its own fields
-- stay. `swept`: the stamp of that clear.
local function sweep(hash, swept)
  local names = {':pad', ':inc', ':nonce', ':inherited', ':head', ':reply', ':state', ':thr',
    ':int', ':ret', ':hold', ':beat', ':until', ':lost', ':graced'}
  local words = {':swept', text(swept)}
  for index, value in ipairs(call('HMGET', hash, unpack(names))) do
    words[#words + 1] = names[index]
    words[#words + 1] = value or ''
  end
  guard()
  call('UNLINK', hash)
  call('HSET', hash, unpack(words))
end

local function sweep_own(swept)
  sweep(I, swept)
  write_field(':swept', text(swept))
  own, written = {}, {}
end

-- The moves after the stamp `known`, oldest first: {key, epoch, …}. Those of one step come
-- together. If there are more than fit, also the stamp of the last one given (P10, learning moves).
local function journal_since()
  local moves = {}
  if known >= space.latest then
    return moves, nil
  end
  local found, count, last
  -- A step moves at most MAX_JOURNAL keys, so more than these are not of one step.
  for _, size in ipairs({JOURNAL_PAGE, MAX_JOURNAL}) do
    found = call('ZRANGEBYSCORE', M, '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, size + 1)
    count = #found / 2
    if count <= size then
      break
    end
    local cut = found[2 * count]
    while count > 0 and found[2 * count] == cut do
      count = count - 1
    end
    if count > 0 then
      last = tonumber(found[2 * count])
      break
    end
  end
  local moved = {}
  for index = 1, count do
    moved[index] = found[2 * index - 1]
  end
  for index, late in ipairs(spread('HMGET', L, moved)) do
    moves[2 * index - 1] = moved[index]
    moves[2 * index] = math.max(space.clear, tonumber(late or found[2 * index]))
  end
  return moves, last
end

-- Which keys of guarded entries have moved unknown to the caller: {key = true} (P36, holds).
local function moved_since()
  local guarded, moved = {}, {}
  for index = FIRST, #ARGV, 4 do
    if string.sub(ARGV[index], 2, 2) == GUARDED then
      guarded[#guarded + 1] = ARGV[index + 1]
    end
  end
  if known < space.latest then
    for index, stamp in ipairs(spread('ZMSCORE', M, guarded)) do
      moved[guarded[index]] = math.max(space.clear, tonumber(stamp or 0)) > known or nil
    end
  end
  return moved
end

-- Judges the caller's slices in the keys of this step by moves above the stamp `last`. Adds these
-- moves to those that the caller is told now (P10, learning moves).
local function catch_up_with(moves, last)
  local stamps, late = spread('ZMSCORE', M, keys), spread('HMGET', L, keys)
  local seen, gone = {}, {}
  for index, key in ipairs(keys) do
    local stamp = tonumber(stamps[index] or 0)
    if stamp > last and not seen[key] then
      local epoch = math.max(space.clear, tonumber(late[index] or stamp))
      seen[key] = true
      moves[#moves + 1] = key
      moves[#moves + 1] = epoch
      if own[key] then
        local _, made = parse(own[key])
        if made < epoch then
          gone[#gone + 1] = key
        end
      end
    end
  end
  drop_own(gone)
end

-- Notes up to which stamp the caller has heard of all moves. It must not have slices any more that
-- these have made void: the moves may be forgotten or archived from now on (P11, forgetting moves).
local function note_known()
  local heard = tonumber(SINCE)
  if heard > record.known then
    record.known = heard
    call('ZADD', H, SINCE, instance)
    write_field(':hold', SINCE)
  end
end

-- Drops the caller's slices that others' moves made void, and tells it of those moves.
local function catch_up()
  if known < space.clear and record.swept < space.clear then
    -- Only its own steps make its slices, and this is the first one since.
    sweep_own(space.clear)
  end
  local moves, last = journal_since()
  local moved, gone = {}, {}
  for index = 1, #moves, 2 do
    moved[#moved + 1] = moves[index]
  end
  for index, slice in ipairs(spread('HMGET', I, moved)) do
    if slice then
      local _, stamp = parse(slice)
      if stamp < moves[2 * index] then
        gone[#gone + 1] = moved[index]
      end
    end
  end
  drop_own(gone)
  if last then
    catch_up_with(moves, last)
  end
  if not restarts then  -- else there may be leftovers
    note_known()
  end
  return moves, last
end
