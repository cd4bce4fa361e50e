-- Needs: base, space, observed, sums, registry; of the script:
--   FIRST, FOLLOWS, SINCE, restarts, same_birth

-- How a step begins, which apply.lua and resume.lua have in common. Both say, before:
--   FIRST    index in ARGV of their first entry; each is four words: kind, key, value, after
--   FOLLOWS  the seq that must be the recorded one, but for a first piece (P39, unique numbers)
--   SINCE    up to which stamp the caller has heard of all moves, archived ones, too (P45, archive)
--   restarts, same_birth   (resume) it is a first piece; it answers this very namespace
-- and ARGV 3 … 8 are the same in both. In a first piece ARGV 13 is what the instance says of
-- itself.
local incarnation, seq, known = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local periods = {threshold = tonumber(ARGV[6]), interval = tonumber(ARGV[7]),
  retention = tonumber(ARGV[8])}

local keys = {}       -- of the entries, in order
local own = {}        -- {key of an entry = own slice as value@stamp, false for none}
local written = {}    -- keys whose own slice changed, in order; each also as a name
local fields = {}     -- of the caller's hash, to be written at the end: {field, value, …}
local record = {}     -- what the store knew of the caller
local latest_before   -- the largest journal stamp before this step

local function read()
  local mine = {':inc', ':head', ':state', ':beat', ':thr', ':int', ':hold', ':lost', ':graced',
    ':swept'}
  local ours = {unpack(SPACE_FIELDS)}
  for index = FIRST, #ARGV, 4 do
    local key = ARGV[index + 1]
    keys[#keys + 1] = key
    mine[#mine + 1] = key
    ours[#ours + 1] = key
  end
  local found = spread('HMGET', I, mine)
  local values = spread('HMGET', N, ours)
  take_space(values)
  latest_before = space.latest
  record = {
    inc = tonumber(found[1] or nil), seq = tonumber(string.match(found[2] or '0', '%S+$')),
    state = found[3],
    beat = tonumber(found[4] or 0), threshold = tonumber(found[5] or 0),
    interval = tonumber(found[6] or 0), known = tonumber(found[7] or 0), lost = found[8],
    graced = found[9], swept = tonumber(found[10] or space.clear),
  }
  for index, key in ipairs(keys) do
    own[key] = found[index + 10]
    sum[key] = values[index + #SPACE_FIELDS]
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
  local recent = math.floor(record.threshold / RECENT_PART)
  if steady() >= space.last and steady() - record.beat < recent then
    return false, 0
  end
  hear(record.threshold, record.interval, record.beat)
  call('ZADD', A, text(space.last + record.threshold), instance)
  write_field(':beat', text(space.last))
  write_field(':until', recent_until(space.last, record.threshold))
  local lost = blackouts_of(record.threshold, record.interval).lost
  local silent = space.last - record.beat - (lost - record.lost)
  if record.lost ~= text(lost) then
    write_field(':lost', text(lost))
  end
  if record.graced ~= '0' then
    write_field(':graced', '0')
  end
  space.clock = math.max(space.clock, now)
  return true, note_lateness(record.threshold, record.interval, silent)
end

-- The answer to a request that must not be executed, or nil.
local function judge()
  local born = birth()
  if was_listed then
    return {RESUME, '', born}  -- its record is gone, too
  elseif not record.inc or incarnation > record.inc then
    if not (restarts and same_birth()) then
      return {RESUME, '', born}
    end
  elseif incarnation < record.inc then
    return {CONFLICT, text(record.inc)}
  elseif seq == record.seq then
    -- It was sent once more, so its instance lives.
    if record.state == LIVE and refresh() then
      spread('HSET', I, fields)
    end
    return {DONE, call('HGET', I, ':reply')}
  elseif seq < record.seq then
    return {STALE}
  elseif restarts then
    if not same_birth() then
      return {RESUME, text(record.seq), born}
    end
  elseif record.state ~= LIVE or record.seq ~= FOLLOWS then
    return {RESUME, text(record.seq), born}
  end
  return nil
end

-- Reads what the step is about. Returns the reply if it must not be executed.
local function begin()
  read()
  local refusal = judge()
  if refusal then
    save_space()
  end
  return refusal
end

-- Writes a sign of life down. Returns whether it did, and for how long the step was held up (P42,
-- overload).
local function touch()
  if not restarts then
    return refresh()
  end
  hear()
  local lives = record.state == LIVE
  local lost = add_living(periods, lives and record.threshold, record.interval)
  if record.inc ~= incarnation then
    -- It may have leftovers of an older one, which knew less.
    local heard = tonumber(SINCE)
    record.known = record.inc and math.min(heard, record.known) or heard
    write_record(I, incarnation, '', '0', LIVE, periods, record.known, space.last, lost,
      record.swept, ARGV[13])
  else
    call('HSET', I, ':state', LIVE, ':thr', ARGV[6], ':int', ARGV[7], ':ret', ARGV[8],
      ':beat', text(space.last), ':until', recent_until(space.last, periods.threshold),
      ':lost', text(lost), ':graced', '0')
  end
  revive(periods.threshold, record.known)
  -- An incarnation is a used stamp, and so is `known`. No stamp up to these is given out again (P6,
  -- one clock).
  space.clock = math.max(space.clock, now, incarnation, known)
  return true, 0
end
