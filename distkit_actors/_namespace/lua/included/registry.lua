-- Needs: base, archive, space, observed, sums

-- Who lives, who waits in the reap queue, who is only remembered (P14, remembered answers).
-- `periods`, here and below, are those of an instance: {threshold, interval, retention}.

-- What the store remembers of the last step of a new record.
local NO_REPLY = '0|0|'

-- Writes a new record; slices in the same hash stay. What the instance says of itself (P25,
-- opening) is its padding, filled up with blanks.
local function write_record(hash, inc, nonce, inherited, state, periods, known, beat, lost, swept,
  about)
  local till = state == LIVE and recent_until(beat, periods.threshold) or '0'
  call('HSET', hash, ':inc', text(inc), ':nonce', nonce, ':inherited', inherited,
    ':head', head_of(known, inc, '0'), ':until', till,
    ':reply', NO_REPLY, ':state', state, ':thr', text(periods.threshold),
    ':int', text(periods.interval), ':ret', text(periods.retention), ':hold', text(known),
    ':beat', text(beat), ':lost', text(lost), ':graced', '0', ':swept', text(swept),
    ':pad', about .. string.rep(' ', #PAD - #about))
end

-- The Redis keys that a namespace shares, and keeps for the retention after all have left it.
local function lasting()
  local archive = open_archive(space.segments)
  return {N, M, L, unpack(archive.hashes(archive.segments))}
end

-- Counts the caller, which has just been heard, among the living; its record says so already.
local function revive(threshold, known)
  call('ZADD', A, text(space.last + threshold), instance)
  call('ZADD', H, text(known), instance)
  call('ZREM', D, instance)
  call('PERSIST', I)
  if call('PERSIST', N) == 1 then
    for _, name in ipairs(lasting()) do
      call('PERSIST', name)
    end
  end
  is_newborn = false
  space.due = math.min(space.due, space.last + threshold)
end

-- Puts an instance at the end of the reap queue, also if the clock has jumped back. Slices that
-- cannot be taken away yet must not stand in front of the others (P23, reaper).
local function enqueue(name)
  local last = call('ZREVRANGE', D, 0, 0, 'WITHSCORES')[2]
  call('ZADD', D, text(math.max(now, tonumber(last or 0) + 1)), name)
  space.due = 0
end

-- Starts the retention of an instance without slices (P14, remembered answers). In Redis it is a
-- time to live.
local function retire(name, hash)
  call('ZREM', D, name)
  call('ZREM', H, name)
  local retention = tonumber(call('HGET', hash, ':ret') or 0)
  call('PEXPIRE', hash, text(math.max(1, math.floor(retention / 1000))))
end

-- Counts an instance among the living no more. Returns whether it was one of them.
local function unlist(name, hash)
  if call('ZREM', A, name) == 0 then
    return false
  end
  local lived_by = call('HMGET', hash, ':thr', ':int')
  if lived_by[1] then
    remove_living(lived_by[1] + 0, lived_by[2] + 0)
  end
  return true
end

-- Counts an instance among the living no more; its slices wait to be reaped.
local function mark_dead(name, state)
  local hash = hash_of(name)
  guard()
  unlist(name, hash)
  if call('EXISTS', hash) == 1 then
    call('HSET', hash, ':state', state, ':until', '0')
  end
  if has_slices(hash) then
    enqueue(name)
  else
    retire(name, hash)
  end
end

-- Spreads the namespace over so many parts (P44, parts). Returns whether the living agree, and
-- whether the number has changed: then instances that lived by another one are marked dead, and
-- must resume. O(instances), if nobody has been heard for long.
local function agree(partitions)
  local before = math.max(1, space.parts)
  if partitions == before then
    return true, false
  end
  local names = call('ZRANGE', A, 0, -1)
  for index = #names, 1, -1 do
    if is_alive(names[index]) then
      return false, false
    end
  end
  for _, name in ipairs(names) do
    mark_dead(name, DEAD)
  end
  space.parts = partitions
  return true, true
end

local function mismatch()
  return {MISMATCH, text(math.max(1, space.parts))}
end

-- Gives a namespace that everybody has left a time to live, as its instances have one. It is not
-- forgotten before the clock has come to its stamps: those of the next one have to be greater.
local function retire_space(retention)
  if call('ZCARD', A) == 0 and call('ZCARD', D) == 0 then
    local time = retention + math.max(0, space.clock - now)
    for _, name in ipairs(lasting()) do
      call('PEXPIRE', name, text(math.floor(time / 1000)))
    end
  end
end

-- Marks an instance dead and removes its slices, some in each step. Returns how many are
-- left, and how many are gone.
local function forget(name)
  local hash, gone = hash_of(name), 0
  if call('ZSCORE', A, name) then
    mark_dead(name, DEAD)
  end
  if not call('ZSCORE', D, name) then
    return '0', '0'
  end
  local some, slices = some_slices(hash, MAX_PURGE)
  gone = take_away(hash, some, slices, MAX_PURGE)
  collectgarbage('step', 24)  -- a little in each step, as in included/reaper.lua
  if not has_slices(hash) then  -- a late move may have taken the last one
    retire(name, hash)
  end
  return text(count_slices(hash)), text(gone)
end

-- Removes up to MAX_PURGE slices of the caller, who starts afresh (P18, empty ground). Slices that
-- cannot leave their sum yet go to an orphan, a dead record of their own. So the caller has nothing
-- left here that it does not know of (I12). Returns whether slices remain, and whether there is an
-- orphan.
local function purge(at, periods, known)
  local some, slices = some_slices(I, MAX_PURGE)
  local _, stuck = take_away(I, some, slices, MAX_PURGE)
  if #stuck > 0 then
    local orphan = instance .. ':' .. text(at)
    local hash, left = hash_of(orphan), {}
    for index = 1, #stuck, 2 do
      left[#left + 1] = stuck[index]
    end
    write_record(hash, 0, '', '0', DEAD, periods, known, 0, 0, 0, '')
    spread('HSET', hash, stuck)
    spread('HDEL', I, left)
    call('ZADD', H, text(known), orphan)
    enqueue(orphan)
  end
  return has_slices(I), #stuck > 0
end
