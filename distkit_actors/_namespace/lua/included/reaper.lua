-- Needs: base, space, observed, sums, registry

-- How the dead are found and their slices taken away, a few in every step (P23, reaper; P24,
-- blackout).
--
-- Takes away up to `budget` slices of the dead, those of `wanted` keys first. `late`: for how long
-- the step itself was held up; others may have been so, too (P42, overload). Returns how many
-- instances live if there is more to do and progress was made, else 0; and how many slices could
-- not be taken away, as far as it has seen (I12, overflow).
local function reap(budget, wanted, late)
  local at = steady() - late
  if budget == 0 or at < space.due then
    return 0, 0
  end
  -- The functions are made here, so that a step that need not reap does not pay for them.
  local GARBAGE = 64
  local done, gone, stuck = 0, 0, 0

  local function find_dead()
    local expired = call('ZRANGEBYSCORE', A, '-inf', text(at), 'LIMIT', 0, OVERDUE_PER_STEP)
    local deaths = 0
    for _, name in ipairs(expired) do
      local heard, left, lost, graced = call('HMGET', hash_of(name), unpack(HEARD)), 0, nil, nil
      if heard[1] then  -- else its hash is not there
        left, lost, graced = judge_silence(heard, at)
      end
      if left > 0 then
        call('ZADD', A, text(at + left), name)
        if graced then
          call('HSET', hash_of(name), ':lost', text(lost), ':graced', text(graced))
        end
        done = done + 1
      elseif deaths < DEATHS_PER_STEP then
        mark_dead(name, DEAD)
        deaths = deaths + 1
      end
    end
    done = done + deaths
  end

  local function take(hash, some, slices, epochs)
    local more, left = take_away(hash, some, slices, budget - gone, epochs)
    gone, stuck = gone + more, stuck + #left / 2
    return more
  end

  local function first_in_queue()
    return call('ZRANGE', D, 0, QUEUED_PER_STEP - 1)
  end

  -- Takes slices in the keys of this step first, so that its answers are right at once. Returns who
  -- is first in the queue now.
  local function touched_first(found)
    local once, seen, retired = {}, {}, false
    for _, key in ipairs(wanted) do
      if not seen[key] then
        seen[key] = true
        once[#once + 1] = key
      end
    end
    local epochs = epochs_of(once)
    for _, name in ipairs(found) do
      if gone == budget then
        break
      end
      local hash = hash_of(name)
      local more = take(hash, once, spread('HMGET', hash, once), epochs)
      if more > 0 and not has_slices(hash) then
        retire(name, hash)
        retired = true
      end
    end
    return retired and first_in_queue() or found
  end

  local function oldest_first(found)
    local seen = stuck  -- some of them come once more
    stuck = 0
    for _, name in ipairs(found) do
      if gone == budget then
        break
      end
      local hash = hash_of(name)
      local some, slices = some_slices(hash, budget - gone)
      take(hash, some, slices)
      if not has_slices(hash) then
        guard()
        retire(name, hash)
      elseif gone < budget then
        enqueue(name)  -- only what does not fit is left of it
      end
    end
    stuck = math.max(stuck, seen)
  end

  find_dead()
  local found = first_in_queue()
  if #found > 0 then
    oldest_first(touched_first(found))
  end
  if call('ZCARD', D) > 0 then
    space.due = 0
  else
    space.due = tonumber(call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] or 0)
  end
  -- All this leaves garbage. Lua would sweep it all at once in about every ninth step, which would
  -- take three times as long as the others. Swept here, it costs each step a little. GARBAGE bounds
  -- that work, also where others have filled the server's Lua.
  collectgarbage('step', GARBAGE)
  return space.due <= at and done + gone > 0 and call('ZCARD', A) or 0, stuck
end
