-- Who lives, who is dead with slices (a body), who is only remembered (P14, remembered answers).

-- What the store remembers of the last step of a new record.
local NO_REPLY = '0|0|'

-- Writes a new record; slices in the same hash stay.
local function write_record(name, inc, nonce, inherited, state, pace, hold, beat, lost, swept)
  call('HSET', name, ':inc', text(inc), ':nonce', nonce, ':inherited', inherited, ':seq', '0',
    ':reply', NO_REPLY, ':state', state, ':thr', text(pace.thr), ':int', text(pace.int),
    ':ret', text(pace.ret), ':hold', text(hold), ':beat', text(beat), ':lost', text(lost),
    ':graced', '0', ':swept', text(swept), ':pad', PAD)
end

-- Counts the caller, which has just been heard, among the living; its record says so already.
local function revive(thr, hold)
  call('ZADD', A, text(space.last + thr), instance)
  call('ZADD', H, text(hold), instance)
  call('ZREM', D, instance)
  call('PERSIST', I)
  for _, name in ipairs({N, M, L}) do
    call('PERSIST', name)
  end
  space.due = math.min(space.due, space.last + thr)
end

-- Puts a body at the end of the queue. The order is that of the calls, even if the clock
-- jumps: what cannot be taken away yet must not stand in front of the rest (P23, reaper).
local function enqueue(name)
  local last = call('ZREVRANGE', D, 0, 0, 'WITHSCORES')[2]
  call('ZADD', D, text(math.max(now, tonumber(last or 0) + 1)), name)
  space.due = 0
end

-- Starts the retention of an instance without slices (P14). In Redis it is a time to live.
local function release(name, hash)
  call('ZREM', D, name)
  call('ZREM', H, name)
  local retention = tonumber(call('HGET', hash, ':ret') or 0)
  call('PEXPIRE', hash, text(math.max(1, math.floor(retention / 1000))))
end

-- Takes an instance from among the living, if it is there. Returns whether it was.
local function unlist(name, hash)
  if call('ZREM', A, name) == 0 then
    return false
  end
  local pace = call('HMGET', hash, ':thr', ':int')
  if pace[1] then
    part(pace[1] + 0, pace[2] + 0)
  end
  return true
end

-- Takes an instance from among the living; its slices wait to be reaped.
local function bury(name, state)
  local hash = hash_of(name)
  guard()
  unlist(name, hash)
  if call('EXISTS', hash) == 1 then
    call('HSET', hash, ':state', state)
  end
  if has_slices(hash) then
    enqueue(name)
  else
    release(name, hash)
  end
end

-- Gives a namespace that everybody has left a time to live, as its instances have one.
local function release_space(retention)
  if call('ZCARD', A) == 0 and call('ZCARD', D) == 0 then
    for _, name in ipairs({N, M, L}) do
      call('PEXPIRE', name, text(math.floor(retention / 1000)))
    end
  end
end

-- Removes up to PURGE slices of the caller, who starts afresh (P18). Those that cannot leave
-- their sum yet go to a body of their own, so that the caller has nothing left here that it
-- does not know of (I12). Returns whether slices remain, and whether there is such a body.
local function purge(at, pace, hold)
  local keys, pieces = some_slices(I, PURGE)
  local _, stuck = take_away(I, keys, pieces, PURGE)
  if #stuck > 0 then
    local orphan = instance .. ':' .. text(at)
    local hash, left = hash_of(orphan), {}
    for index = 1, #stuck, 2 do
      left[#left + 1] = stuck[index]
    end
    write_record(hash, 0, '', '0', 'dead', pace, hold, 0, 0, 0)
    spread('HSET', hash, stuck)
    spread('HDEL', I, left)
    call('ZADD', H, text(hold), orphan)
    enqueue(orphan)
  end
  return has_slices(I), #stuck > 0
end
