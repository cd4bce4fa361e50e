-- Needs: base, space

-- Which silence counts: time as the instances of the namespace have observed it (P40, observed
-- time).
--
--   :shift  by how much the server's clock has jumped back, all in all
--   :last   last sign of life of anybody, in steady time: the clock plus :shift
--   :paces  for each threshold and interval that somebody lives by: these, the steady time that
--           was not observed, when the last blackout ended, how many instances; and ';' between
local function steady()
  return now + space.shift
end

-- What the instances of the same periods have not observed: a list, and
-- {'threshold,interval' = one of the list}. It is read when it is needed.
local by_periods

local function read_by_periods()
  if not by_periods then
    by_periods = {}
    for threshold, interval, lost, ended, living in
      string.gmatch(space.paces, '(%d+),(%d+),(%d+),(%d+),(%d+)') do
      local blackouts = {threshold = threshold + 0, interval = interval + 0, lost = lost + 0,
        ended = ended + 0, living = living + 0}
      by_periods[#by_periods + 1] = blackouts
      by_periods[threshold .. ',' .. interval] = blackouts
    end
  end
  return by_periods
end

local function write_by_periods()
  local words = {}
  for index, blackouts in ipairs(by_periods) do
    words[index] = table.concat({text(blackouts.threshold), text(blackouts.interval),
      text(blackouts.lost), text(blackouts.ended), text(blackouts.living)}, ',')
  end
  space.paces = table.concat(words, ';')
end

-- What the instances of these periods have not observed: nothing, if the server has lost that.
local function blackouts_of(threshold, interval)
  return read_by_periods()[text(threshold) .. ',' .. text(interval)]
    or {threshold = threshold, interval = interval, lost = 0, ended = 0, living = 0}
end

-- The longest gap that is no blackout for instances of these periods (P24, blackout).
local function longest_silence(threshold, interval)
  local unnoticed = threshold - interval
  local period = math.min(interval, math.floor(unnoticed * PERIOD_TENTHS / 10))
  return math.floor((period + unnoticed) / 2)
end

-- Notes a sign of life: of an instance with `threshold` and `interval` that was heard at `beat`, or
-- of a new one, without these.
local function hear(threshold, interval, beat)
  local gap = steady() - space.last
  if gap < 0 then
    space.shift = space.shift - gap
    return
  end
  space.last = space.last + gap
  -- An instance that beats at its usual pace was present all the time, and has observed the gap. If
  -- it did not count, the death of all that beat faster would be put off again and again. They get
  -- a fresh threshold all the same: perhaps nobody could be heard.
  local present = threshold and space.last - beat <= longest_silence(threshold, interval)
  local changed_any = false
  for _, blackouts in ipairs(read_by_periods()) do
    if gap > longest_silence(blackouts.threshold, blackouts.interval) then
      blackouts.ended = space.last
      if not present then
        blackouts.lost = blackouts.lost + gap - math.min(gap, blackouts.interval)
      end
      changed_any = true
    end
  end
  if changed_any then
    write_by_periods()
  end
end

-- Returns how much too late an instance of these periods is heard now, after the silence `silent`.
-- Others may have been held up, too, and nobody knows for how long. So this is like the end of a
-- blackout for all periods by which such a silence is too long (P42, overload).
local function note_lateness(threshold, interval, silent)
  local late = silent - longest_silence(threshold, interval)
  if late <= 0 then
    return 0
  end
  for _, blackouts in ipairs(read_by_periods()) do
    if silent > longest_silence(blackouts.threshold, blackouts.interval) then
      blackouts.ended = space.last
    end
  end
  write_by_periods()
  return late
end

-- Counts one living instance of these periods less. Forgets the periods if no other one has them.
local function remove_living(threshold, interval)
  local gone = blackouts_of(threshold, interval)
  gone.living = gone.living - 1
  if gone.living == 0 then
    by_periods[text(threshold) .. ',' .. text(interval)] = nil
    for index, blackouts in ipairs(by_periods) do
      if blackouts == gone then
        table.remove(by_periods, index)
        break
      end
    end
  end
  write_by_periods()
end

-- Counts one more living instance of `periods`. If it has lived up to now, `old_threshold` and
-- `old_interval` are its periods so far. Returns how much steady time the instances of `periods`
-- have not observed.
local function add_living(periods, old_threshold, old_interval)
  local threshold, interval = periods.threshold, periods.interval
  local blackouts = blackouts_of(threshold, interval)
  if blackouts.living == 0 then
    by_periods[#by_periods + 1] = blackouts
    by_periods[text(threshold) .. ',' .. text(interval)] = blackouts
  end
  blackouts.living = blackouts.living + 1
  write_by_periods()
  if old_threshold then
    remove_living(old_threshold, old_interval)
  end
  return blackouts.lost
end

-- What `judge_silence` has to know of a living instance; more may follow.
local HEARD = {':thr', ':int', ':beat', ':lost', ':graced'}

-- Returns how long an instance may still be silent at the instant `at`; if that is 0 or less, it is
-- dead. One that was silent for too long gets one fresh threshold if there was a blackout in that
-- time, and no other one before it is heard again (I5, blackout). Then :lost and :graced change,
-- and their new values are returned, too.
local function judge_silence(heard, at)
  local threshold, beat = heard[1] + 0, heard[3] + 0
  local lost, graced = heard[4] + 0, heard[5] + 0
  local blackouts = blackouts_of(threshold, heard[2] + 0)
  local left = threshold - (at - math.max(beat, graced)) + (blackouts.lost - lost)
  if left <= 0 and graced == 0 and blackouts.ended > beat then
    return threshold - (at - blackouts.ended), blackouts.lost, blackouts.ended
  end
  return left
end

-- The steady time by which an onlooker judges who is silent (P43, looking). It has `observed` the
-- namespace itself up to that instant. Later time proves nothing to it, unless somebody was heard
-- in that time. With JUST_COME it believes the clock. If the clock has jumped back, it does so only
-- once somebody has been heard.
local function seen_by(observed)
  local at = steady()
  if observed == '' or observed == JUST_COME and at >= space.last then
    return at
  end
  local seen = math.max(space.last, tonumber(observed))
  return at < space.last and seen or math.min(at, seen)
end

local asking  -- :state, :beat, :thr and :int of the asker, once they were read

-- Tells whether `asker` would find a living instance alive if `asker` were heard now. A blackout up
-- to now, or a jump of the clock, proves nothing.
local function is_seen_alive(heard, asker)
  asking = asking or call('HMGET', hash_of(asker), ':state', ':beat', ':thr', ':int')
  local threshold, interval, at, present = heard[1] + 0, heard[2] + 0, steady(), false
  if asking[1] == LIVE then
    local silent = at - asking[2]
    if at >= space.last and silent < math.floor(asking[3] / RECENT_PART) then
      return judge_silence(heard, at) > 0  -- it would not be written down
    end
    present = silent <= longest_silence(asking[3] + 0, asking[4] + 0)
  end
  local gap = at - space.last
  if gap > longest_silence(threshold, interval) then
    if heard[5] == '0' then
      return true
    end
    if not present then
      at = at - gap + math.min(gap, interval)
    end
  end
  return judge_silence(heard, at) > 0
end

-- Tells whether an instance counts as alive; changes nothing.
local function is_alive(name)
  local heard = call('HMGET', hash_of(name), ':thr', ':int', ':beat', ':lost', ':graced', ':state')
  return heard[6] == LIVE and judge_silence(heard, steady()) > 0
end
