-- Takes in one piece of what an instance knows and the store should know of it (P17 … P22).
--
-- KEYS  see included/base.lua
-- ARGV  1 … 8 as in apply.lua
--       9 born: the namespace it answers to
--      10 in a first piece over how many parts the instance spreads the namespace, else '0'
--      11 stamp of the instance's own last clear
--      12 how many own moves follow
--      13 what the instance says of itself, of use in a first piece
--      14 up to which stamp it had heard of all moves before it began to return (P45, archive)
--       … two words for each own move: key, epoch
--       … four words for each claim: ^, key, value@stamp, after
-- Reply as apply.lua, or
--       {mismatch, partitions}      not executed: the living spread it over so many
-- With again = 1 it only removed leftovers of the instance, and more are left. Behind all there may
-- be one more word: up to which stamp moves are archived (P45, archive).
--@include numbers
--@include announce
--@include base
--@include archive
--@include space
--@include observed
--@include sums
--@include registry
local MOVES = tonumber(ARGV[12])
local FIRST, FOLLOWS, SINCE = 15 + 2 * MOVES, tonumber(ARGV[4]) - 1, ARGV[14]
local restarts = ARGV[10] ~= '0'
local function same_birth()
  return tonumber(ARGV[9]) == space.born
end
--@include step
--@include journal
--@include forgetting
--@include entries
--@include finish

-- Every instance that may have slices.
local function contributors()
  return call('ZRANGE', H, 0, -1)
end

-- Executes a clear that the store had lost: nobody but the caller lives then, and those who did
-- must resume (P22, late moves). O(instances).
local function clear_late(cleared)
  space.clear = cleared
  space.latest = math.max(space.latest, cleared)
  space.clock = math.max(space.clock, cleared)
  forget_sums()
  for _, name in ipairs(contributors()) do
    local hash = hash_of(name)
    if hash == I then
      sweep_own(cleared)
    else
      local there = call('EXISTS', hash) == 1  -- a server that evicts may have taken it
      if there then
        sweep(hash, cleared)
      end
      if unlist(name, hash) and there then
        call('HSET', hash, ':state', DEAD, ':until', '0')
      end
      retire(name, hash)
    end
  end
end

-- Removes what lost moves had made void; younger slices survive (P22, late moves). O(instances ×
-- moves).
local function move_late(late, at)
  local names, moved = contributors(), {}
  for _, move in ipairs(late) do
    moved[#moved + 1] = move.key
  end
  local slices = {}
  for _, name in ipairs(names) do
    slices[name] = spread('HMGET', hash_of(name), moved)
  end
  local counted_from = epochs_of(moved)
  for index, move in ipairs(late) do
    local key = move.key
    set_sum(key, '0')
    for _, name in ipairs(names) do
      local slice = slices[name][index]
      if slice then
        local value, stamp = parse(slice)
        if stamp >= counted_from[key] then
          if stamp < move.epoch then
            call('HDEL', hash_of(name), key)
          elseif not add(key, value) then
            -- It waits with its owner until it fits (I12, overflow): the owner must re-assert it.
            call('HDEL', hash_of(name), key)
            if call('ZSCORE', A, name) then
              mark_dead(name, DEAD)
            end
          end
        end
      end
    end
    call('ZADD', M, text(at), key)
    call('HSET', L, key, text(move.epoch))
    space.latest = at
    space.clock = math.max(space.clock, at, move.epoch)
    if own[key] then
      own[key] = call('HGET', I, key)
    end
  end
end

-- Takes in what the store had lost, before any claim. Returns true if leftovers remain.
local function reassert(at)
  if restarts then
    local more, orphaned = purge(at, periods, record.known)
    if orphaned then
      space.clock = math.max(space.clock, at)
    end
    if more then
      return true
    end
    own = {}
  end
  local cleared = tonumber(ARGV[11])
  if cleared > space.clear then
    clear_late(cleared)
  end
  local moved, late = {}, {}
  for index = 1, MOVES do
    moved[index] = ARGV[13 + 2 * index]
  end
  local epochs = all_epochs_of(moved)
  for index, key in ipairs(moved) do
    local epoch = tonumber(ARGV[14 + 2 * index])
    if epoch > epochs[key] and epoch > space.floor then
      late[#late + 1] = {key = key, epoch = epoch}
    end
  end
  if #late > 0 then
    move_late(late, at)
  end
  return false
end

local refusal = begin()
if refusal then
  return refusal
end
if restarts then
  local agreed, switched = agree(tonumber(ARGV[10]))
  if not agreed then
    return mismatch()
  elseif switched then
    record.state = DEAD
  end
end

local refreshed = touch()
local at = math.max(space.clock + 1, now)
local moves, last = catch_up()
local again = reassert(at)
if not again then
  note_known()
end
local answer = text(at) .. (again and '|1|' or '|0|' .. run_all(at, {}, false))
return finish({
  at = at, refreshed = refreshed, answer = answer, moves = moves, last = last, stuck = 0,
  resumes = true,
})
