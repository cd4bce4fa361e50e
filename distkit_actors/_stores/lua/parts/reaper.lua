-- How the dead are found and their slices taken away, a few in every step (P23, P24).
--
-- Takes away up to `budget` slices of the dead, those of `keys` first. Returns whether there
-- is more to do and progress was made, and how many slices could not be taken away (I12).
local function reap(budget, keys)
  if budget == 0 or now < space.due then
    return false, 0
  end
  -- What follows is inside, so that a step that need not reap does not pay for it.
  local FOREVER = 2 ^ 63
  local OVERDUE_PER_STEP = 64
  local DEATHS_PER_STEP = 4
  local BODIES_PER_STEP = 16
  local SWEEP = 64

  -- Returns how many deadlines or lives it ended.
  local function find_dead()
    local overdue = call('ZRANGEBYSCORE', A, '-inf', text(now), 'LIMIT', 0, OVERDUE_PER_STEP)
    local extended, deaths = 0, 0
    for _, name in ipairs(overdue) do
      local threshold = tonumber(call('HGET', hash_of(name), ':thr') or 0)
      if space.grace + threshold > now then
        call('ZADD', A, text(space.grace + threshold), name)
        extended = extended + 1
      elseif deaths < DEATHS_PER_STEP then
        bury(name, 'dead')
        deaths = deaths + 1
      end
    end
    return extended + deaths
  end

  -- What bodies hold in the keys of this step, so that its answers are right at once.
  local function touched_first(limit, keys)
    local wanted, seen = {}, {}
    for _, key in ipairs(keys) do
      if not seen[key] then
        seen[key] = true
        wanted[#wanted + 1] = key
      end
    end
    local epochs, gone, stuck = epochs_of(wanted), 0, 0
    for _, name in ipairs(call('ZRANGE', D, 0, BODIES_PER_STEP - 1)) do
      if gone == limit then
        break
      end
      local hash = hash_of(name)
      local pieces = spread('HMGET', hash, wanted)
      local more, left = take_away(hash, wanted, pieces, limit - gone, epochs)
      gone, stuck = gone + more, stuck + #left / 2
      if more > 0 and not has_slices(hash) then
        release(name, hash)
      end
    end
    return gone, stuck
  end

  local function oldest_first(limit)
    local gone, stuck = 0, 0
    for _, name in ipairs(call('ZRANGE', D, 0, BODIES_PER_STEP - 1)) do
      local hash = hash_of(name)
      local keys, pieces = some_slices(hash, limit - gone)
      local more, left = take_away(hash, keys, pieces, limit - gone)
      gone, stuck = gone + more, stuck + #left / 2
      if not has_slices(hash) then
        guard()
        release(name, hash)
      elseif gone < limit then
        enqueue(name)  -- only what does not fit is left of it
      end
      if gone == limit then
        break
      end
    end
    return gone, stuck
  end

  local done, stuck = find_dead(), 0
  if call('ZCARD', D) > 0 then
    local gone, left = touched_first(math.floor(budget / 2), keys)
    done, stuck = done + gone, left
    gone, left = oldest_first(budget - gone)
    done, stuck = done + gone, stuck + left
  end
  if call('ZCARD', D) > 0 then
    space.due = 0
  else
    space.due = tonumber(call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] or FOREVER)
  end
  -- All this leaves garbage, which Lua would sweep once in some nine steps, all at once: that step
  -- took three times as long as the others. Swept here it costs each a little, and not much more
  -- where others have filled the server's Lua (SWEEP bounds the work).
  collectgarbage('step', SWEEP)
  return space.due <= now and done > 0, stuck
end
