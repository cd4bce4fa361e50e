-- Needs: base, archive, space, sums

-- How moves leave the journal: they are forgotten (P11, forgetting moves), or archived (P45,
-- archive). Both need that all have heard of the move: the living and the reap queue.

-- Like `epochs_of`, but with the archive: for claims and late moves. An instance that returns may
-- not have heard of archived moves. The store has no slice that they made void.
local function all_epochs_of(claimed)
  local epochs = epochs_of(claimed)
  if space.segments == '' then
    return epochs
  end
  local archive = open_archive(space.segments)
  local groups = {}  -- {which of the hashes = its keys}
  for _, key in ipairs(claimed) do
    local nth = archive.nth_of(key)
    groups[nth] = groups[nth] or {}
    table.insert(groups[nth], key)
  end
  for _, segment in ipairs(archive.segments) do
    for nth, group in pairs(groups) do
      for index, epoch in ipairs(spread('HMGET', archive.hash_at(segment.place, nth), group)) do
        epochs[group[index]] = math.max(epochs[group[index]], tonumber(epoch or 0))
      end
    end
  end
  return epochs
end

-- Forgets moves that are older than `horizon`: the oldest segment, and a bounded number of those in
-- the journal.
local function forget_moves(horizon, limit)
  local last = tonumber(string.match(space.segments, '^%d+,%d+,(%d+)') or math.huge)
  local old = call('ZRANGEBYSCORE', M, '-inf', text(horizon), 'WITHSCORES', 'LIMIT', 0, limit)
  if last > horizon and #old == 0 then
    return
  end
  local told = tonumber(call('ZRANGE', H, 0, 0, 'WITHSCORES')[2] or 0)
  if last <= math.min(horizon, told) then
    local archive = open_archive(space.segments)
    guard()
    call('UNLINK', unpack(archive.hashes({table.remove(archive.segments, 1)})))
    space.segments, space.floor = archive.list(), math.max(space.floor, last)
  end
  local gone = {}
  for index = 1, #old, 2 do
    local stamp = tonumber(old[index + 1])
    if stamp > told then
      break
    end
    gone[#gone + 1] = old[index]
    space.floor = stamp
  end
  if #gone > 0 then
    guard()
    spread('ZREM', M, gone)
    spread('HDEL', L, gone)
  end
end

-- Archives the oldest moves that all have heard of, if the journal has many.
local function put_away(retention)
  local surplus = call('ZCARD', M) - JOURNAL_KEPT
  if surplus < ARCHIVE_AT_LEAST then
    return
  end
  local told = tonumber(call('ZRANGE', H, 0, 0, 'WITHSCORES')[2] or 0)
  local old = call('ZRANGEBYSCORE', M, '-inf', text(told), 'WITHSCORES', 'LIMIT', 0,
    math.min(surplus, ARCHIVE_AT_MOST))
  if #old == 0 then
    return
  end
  local gone = {}
  for index = 1, #old, 2 do
    gone[#gone + 1] = old[index]
  end
  local archive, groups = open_archive(space.segments), {}  -- {hash = what is to be in it}
  local segments, segment = archive.segments, archive.segments[#archive.segments]
  local span = math.floor(retention / SEGMENTS_OF_RETENTION)
  for index, late in ipairs(spread('HMGET', L, gone)) do
    local key, stamp = gone[index], tonumber(old[2 * index])
    if not segment or stamp >= segment.first + span and #segments < MAX_SEGMENTS then
      -- Segments leave in the order in which they came, so the place is free.
      segment = {place = segment and (segment.place + 1) % MAX_SEGMENTS or 0, first = stamp}
      segments[#segments + 1] = segment
      groups[archive.hash_at(segment.place, 0)] = {':pad', ''}
      groups[archive.hash_at(segment.place, 1)] = {':pad', ''}
    end
    segment.last = stamp
    local hash = archive.hash_at(segment.place, archive.nth_of(key))
    local group = groups[hash] or {}
    groups[hash] = group
    group[#group + 1], group[#group + 2] = key, late or text(stamp)
  end
  for hash, group in pairs(groups) do
    spread('HSET', hash, group)
  end
  space.segments = archive.list()
  spread('ZREM', M, gone)
  spread('HDEL', L, gone)
end
