-- What apply.lua and resume.lua have in common. Both give, before they include this:
--   FIRST   index in ARGV of their first entry; each is four words: kind, key, value, after
--   BEFORE  the seq that must be the recorded one, but for a first part (P39, unique numbers)
--   restarts, answers_us   (resume) it is a first part; it answers this very namespace
-- and ARGV 3 … 8 are the same in both.
local MAX_JOURNAL = 1000
local FORGET_AT_LEAST = 100

local incarnation, seq, known = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local pace = {thr = tonumber(ARGV[6]), int = tonumber(ARGV[7]), ret = tonumber(ARGV[8])}

local keys = {}       -- of the entries, in order
local own = {}        -- {key of an entry = own slice as value@stamp, false for none}
local written = {}    -- keys whose own slice changed, in order; each also as a name
local fields = {}     -- of the caller's hash, to be written at the end: {field, value, …}
local record = {}     -- what the store knew of the caller

local function read()
  local mine = {':inc', ':seq', ':state', ':beat', ':thr', ':int', ':hold', ':lost', ':graced',
    ':swept'}
  local ours = {unpack(SPACE_FIELDS)}
  for index = FIRST, #ARGV, 4 do
    local key = ARGV[index + 1]
    keys[#keys + 1] = key
    mine[#mine + 1] = key
    ours[#ours + 1] = key
  end
  local pieces = spread('HMGET', I, mine)
  local sums = spread('HMGET', N, ours)
  take_space(sums)
  record = {
    inc = tonumber(pieces[1] or nil), seq = tonumber(pieces[2] or 0), state = pieces[3],
    beat = tonumber(pieces[4] or 0), thr = tonumber(pieces[5] or 0), int = tonumber(pieces[6] or 0),
    hold = tonumber(pieces[7] or 0), lost = pieces[8], graced = pieces[9],
    swept = tonumber(pieces[10] or space.clear),
  }
  for index, key in ipairs(keys) do
    own[key] = pieces[index + 10]
    sum[key] = sums[index + #SPACE_FIELDS]
  end
end

local function write_field(field, value)
  fields[#fields + 1] = field
  fields[#fields + 1] = value
end

-- Writes a sign of life of a living instance down, unless the last one is recent. Returns whether
-- it did, and for how long the step was held up (P42, overload).
local function refresh()
  -- After a jump back of the clock, nothing is recent: the jump has to be taken down first.
  if steady() >= space.last and steady() - record.beat < math.floor(pace.thr / 64) then
    return false, 0
  end
  hear(record.thr, record.int, record.beat)
  call('ZADD', A, text(space.last + record.thr), instance)
  write_field(':beat', text(space.last))
  local lost = pace_of(record.thr, record.int).lost
  local silent = space.last - record.beat - (lost - record.lost)
  if record.lost ~= text(lost) then
    write_field(':lost', text(lost))
  end
  if record.graced ~= '0' then
    write_field(':graced', '0')
  end
  space.clock = math.max(space.clock, now)
  return true, note_lateness(record.thr, record.int, silent)
end

-- The answer to a request that must not be executed, or nil.
local function judge()
  local born = birth()
  if not record.inc or incarnation > record.inc then
    if not (restarts and answers_us()) then
      return {'resume', '', born}
    end
  elseif incarnation < record.inc then
    return {'conflict', text(record.inc)}
  elseif seq == record.seq then
    -- It was sent once more, so that its instance lives.
    if record.state == 'live' and refresh() then
      spread('HSET', I, fields)
    end
    return {'done', call('HGET', I, ':reply')}
  elseif seq < record.seq then
    return {'stale'}
  elseif restarts then
    if not answers_us() then
      return {'resume', text(record.seq), born}
    end
  elseif record.state ~= 'live' or record.seq ~= BEFORE then
    return {'resume', text(record.seq), born}
  end
  return nil
end

-- Writes a sign of life down. Returns whether it did, and for how long the step was held up (P42).
local function touch()
  if not restarts then
    return refresh()
  end
  hear()
  local lives = record.state == 'live'
  local lost = join(pace.thr, pace.int, lives and record.thr, record.int)
  if record.inc ~= incarnation then
    record.hold = known
    write_record(I, incarnation, '', '0', 'live', pace, known, space.last, lost,
      record.swept)
  else
    call('HSET', I, ':state', 'live', ':thr', ARGV[6], ':int', ARGV[7], ':ret', ARGV[8],
      ':beat', text(space.last), ':lost', text(lost), ':graced', '0')
  end
  revive(pace.thr, record.hold)
  -- An incarnation is a stamp that is used, too: it is not given out again (P6, one clock).
  space.clock = math.max(space.clock, now, incarnation)
  return true, 0
end

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
  local names = {':inc', ':nonce', ':inherited', ':seq', ':reply', ':state', ':thr', ':int',
    ':ret', ':hold', ':beat', ':lost', ':graced'}
  local words = {':pad', PAD, ':swept', text(swept)}
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

-- The moves after the stamp `known`, oldest first, whole steps at a time: {key, epoch, …}.
-- With more outstanding than fit, also the stamp of the last one given (P10, learning moves).
local function journal_since()
  local moves = {}
  if known >= space.latest then
    return moves, nil
  end
  local found = call('ZRANGEBYSCORE', M, '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0,
    MAX_JOURNAL + 1)
  local count, last = #found / 2, nil
  if count > MAX_JOURNAL then
    -- A step moves at most that many keys, so not all of these are of one step.
    local cut = found[2 * count]
    while found[2 * count] == cut do
      count = count - 1
    end
    last = tonumber(found[2 * count])
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

-- Which keys of guarded entries have moved unknown to the caller: {key = true} (P36).
local function moved_since()
  local guarded, moved = {}, {}
  for index = FIRST, #ARGV, 4 do
    if string.sub(ARGV[index], 2, 2) == 'g' then
      guarded[#guarded + 1] = ARGV[index + 1]
    end
  end
  if known < math.max(space.latest, space.clear) then
    for index, stamp in ipairs(spread('ZMSCORE', M, guarded)) do
      moved[guarded[index]] = math.max(space.clear, tonumber(stamp or 0)) > known or nil
    end
  end
  return moved
end

-- Judges the caller's slices in the keys of this step by moves above the stamp `last`, which are
-- told later, and adds these moves to those that are told (P10, learning moves).
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

-- Drops the caller's slices that others' moves made void, and tells it of those moves.
local function catch_up()
  if known < space.clear and record.swept < space.clear then
    -- Slices are made in own steps, of which this is the first since.
    sweep_own(space.clear)
  end
  local moves, last = journal_since()
  local moved, gone = {}, {}
  for index = 1, #moves, 2 do
    moved[#moved + 1] = moves[index]
  end
  for index, piece in ipairs(spread('HMGET', I, moved)) do
    if piece then
      local _, stamp = parse(piece)
      if stamp < moves[2 * index] then
        gone[#gone + 1] = moved[index]
      end
    end
  end
  drop_own(gone)
  if last then
    catch_up_with(moves, last)
  end
  if known > record.hold then
    record.hold = known
    call('ZADD', H, ARGV[5], instance)
    write_field(':hold', ARGV[5])
  end
  return moves, last
end

-- ------------------------------------------------------------------------------- entries

-- Notes the own slice of a key; a 0 is none (P3, zero is absence).
local function write_own(key, value, stamp)
  own[key] = value ~= '0' and value .. '@' .. stamp
  if not written[key] then
    written[key] = true
    written[#written + 1] = key
  end
end

-- Notes a slice that may be new: a stamp that is used is never given out again (P6, one clock).
local function make_own(key, value, stamp)
  if value ~= '0' then
    space.clock = math.max(space.clock, stamp)
  end
  write_own(key, value, text(stamp))
end

-- Adds to the sum and to the own slice, which the caller knows the new value of (P2). `kept`
-- is the stamp of that slice, if there is one; else a new one gets `stamp`. A claim may make an
-- existing slice older.
local function add_own(key, value, after, kept, stamp)
  if not kept then
    after = value
  end
  if after == '' or value ~= '0' and not add(key, value) then
    return false
  elseif kept then
    write_own(key, after, tonumber(kept) > stamp and text(stamp) or kept)
  else
    make_own(key, value, stamp)
  end
  return true
end

local moved_keys = {}  -- moved by this step, each once; and as names

-- Takes an instance for dead and its slices away, some in each step. Returns how many are
-- left, and how many are gone.
local function forget(name)
  local hash, gone = hash_of(name), 0
  if name == instance then
    return '!'
  elseif call('ZSCORE', A, name) then
    bury(name, 'dead')
  end
  if not call('ZSCORE', D, name) then
    return '0,0'
  end
  local keys, pieces = some_slices(hash, PURGE)
  gone = take_away(hash, keys, pieces, PURGE)
  if gone > 0 and not has_slices(hash) then
    release(name, hash)
  end
  return text(math.max(0, call('HLEN', hash) - OWN_FIELDS)) .. ',' .. text(gone)
end

-- Runs one entry at stamp `at`; returns its result. `epochs` is for claims only, `moved` is
-- {key = true} for guarded entries that must not be executed.
local function run(word, key, value, after, at, epochs, moved)
  local total, slice, kept = total_of(key), '0', nil
  if own[key] then
    slice, kept = split(own[key])
  end
  local kind, more = string.sub(word, 1, 1), string.sub(word, 2)
  if string.sub(more, 1, 1) == 'g' then
    if moved[key] then
      return '~'
    end
    more = string.sub(more, 2)
  end
  if more ~= '' then
    local current = string.sub(more, 1, 1) == 'o' and slice or total
    if not holds(current, string.sub(more, 2, 3), string.sub(more, 4)) then
      return total .. ',' .. slice .. '?'
    end
  end
  if kind == '+' or kind == '&' then
    -- 10^18 has 19 digits (P13, values before).
    if kind == '&' and #string.gsub(total, '-', '') > 18 then
      return '/'
    elseif value ~= '0' and not add_own(key, value, after, kept, at) then
      return '!'
    end
  elseif kind == '=' then
    if not exchange(key, slice, value) then
      return '!'
    end
    if kept then
      write_own(key, value, kept)
    else
      make_own(key, value, at)
    end
  elseif kind == '!' then
    set_sum(key, value)
    make_own(key, value, at)
    if not moved_keys[key] then
      moved_keys[key] = true
      moved_keys[#moved_keys + 1] = key
    end
    epochs[key] = at
    space.latest, space.clock = at, math.max(space.clock, at)
  elseif kind == '*' then
    forget_sums()
    call('UNLINK', M, L)
    sweep_own(at)
    moved_keys = {}
    space.clear, space.latest, space.clock = at, at, math.max(space.clock, at)
  elseif kind == '-' then
    return forget(value)
  else
    local amount, stamp = parse(value)
    if math.max(known, stamp) < space.floor
      or stamp < math.max(space.clear, epochs[key] or 0) then
      return '~'
    elseif not add_own(key, amount, after, kept, stamp) then
      return '!'
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

-- Runs all entries; returns their results in one string. With `atomic` it runs all or, where one
-- is refused, none (P34, all or none).
local function run_all(at, moved, whole)
  local totals, slices, clock = {}, {}, space.clock
  if whole then
    for _, key in ipairs(keys) do
      totals[key], slices[key] = total_of(key), own[key]
    end
  end
  local claimed = {}
  for index = FIRST, #ARGV, 4 do
    if string.sub(ARGV[index], 1, 1) == '^' then
      claimed[#claimed + 1] = ARGV[index + 1]
    end
  end
  local epochs, results = epochs_of(claimed), {}
  for index = FIRST, #ARGV, 4 do
    results[#results + 1] = run(ARGV[index], ARGV[index + 1], ARGV[index + 2],
      ARGV[index + 3], at, epochs, moved)
  end
  local joined = table.concat(results, ';')
  if whole and string.find(joined, '!', 1, true) then
    undo(totals, slices, clock)
    joined = string.gsub(joined, '[^;!]+', '-')
  end
  return joined
end

-- Writes what the entries did to the caller's slices and to epochs.
local function write_all(at)
  local removed = {}
  for _, key in ipairs(written) do
    if own[key] then
      write_field(key, own[key])
    else
      removed[#removed + 1] = key
    end
  end
  spread('HSET', I, fields)
  spread('HDEL', I, removed)
  if #moved_keys > 0 then
    local moves = {}
    for _, key in ipairs(moved_keys) do
      moves[#moves + 1] = text(at)
      moves[#moves + 1] = key
    end
    spread('ZADD', M, moves)
    spread('HDEL', L, moved_keys)
  end
end

-- Forgets moves that are old and that nobody has still to hear of, a bounded number (P11).
local function forget_moves(moved_now)
  local old = {}
  if space.latest > 0 then
    local limit = math.max(FORGET_AT_LEAST, 2 * moved_now)
    old = call('ZRANGEBYSCORE', M, '-inf', text(now - pace.ret), 'WITHSCORES', 'LIMIT', 0, limit)
  end
  if #old == 0 then
    return
  end
  local heard = tonumber(call('ZRANGE', H, 0, 0, 'WITHSCORES')[2] or 0)
  local gone = {}
  for index = 1, #old, 2 do
    local stamp = tonumber(old[index + 1])
    if stamp > heard then
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

local function with_journal(reply, moves, latest)
  reply[#reply + 1] = text(space.clear)
  reply[#reply + 1] = text(space.floor)
  reply[#reply + 1] = text(latest)
  for index = 1, #moves, 2 do
    reply[#reply + 1] = moves[index]
    reply[#reply + 1] = text(moves[index + 1])
  end
  return reply
end
