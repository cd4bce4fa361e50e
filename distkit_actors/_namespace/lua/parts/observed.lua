-- Which silence counts: time as the instances of the namespace have observed it (P40).
--
--   :shift  by how much the server's clock has jumped back, all in all
--   :last   last sign of life of anybody, in steady time: the clock plus :shift
--   :paces  for each pace that somebody lives by: threshold, interval, steady time that was not
--           observed, when the last blackout ended, how many instances; and ';' between
local function steady()
  return now + space.shift
end

local paces  -- a list, and {'threshold,interval' = one of it}; read when it is needed

local function read_paces()
  if not paces then
    paces = {}
    for thr, int, lost, ended, living in
      string.gmatch(space.paces, '(%d+),(%d+),(%d+),(%d+),(%d+)') do
      local pace = {thr = thr + 0, int = int + 0, lost = lost + 0, ended = ended + 0,
        living = living + 0}
      paces[#paces + 1] = pace
      paces[thr .. ',' .. int] = pace
    end
  end
  return paces
end

local function write_paces()
  local words = {}
  for index, pace in ipairs(paces) do
    words[index] = table.concat({text(pace.thr), text(pace.int), text(pace.lost),
      text(pace.ended), text(pace.living)}, ',')
  end
  space.paces = table.concat(words, ';')
end

local function pace_of(thr, int)
  return read_paces()[text(thr) .. ',' .. text(int)]
end

-- The longest gap that is no blackout for instances of this pace (P24, blackout).
local function longest_silence(thr, int)
  local unnoticed = thr - int
  local period = math.min(int, math.floor(unnoticed * 9 / 10))
  return math.floor((period + unnoticed) / 2)
end

-- Takes down a sign of life: of one that has lived since `beat` by the pace `thr`, `int`, or of
-- a newcomer, without these.
local function hear(thr, int, beat)
  local gap = steady() - space.last
  if gap < 0 then
    space.shift = space.shift - gap
    return
  end
  space.last = space.last + gap
  -- Who has beaten at its usual pace has been here all the time. So what is a usual gap for it was
  -- observed: else it would put off the death of all who beat faster, again and again. They get
  -- their fresh threshold, as nobody could be heard perhaps.
  local watched = thr and space.last - beat <= longest_silence(thr, int)
  local changed_any = false
  for _, pace in ipairs(read_paces()) do
    if gap > longest_silence(pace.thr, pace.int) then
      pace.ended = space.last
      if not watched then
        pace.lost = pace.lost + gap - math.min(gap, pace.int)
      end
      changed_any = true
    end
  end
  if changed_any then
    write_paces()
  end
end

-- Returns for how long one was held up that lives by this pace, has been silent for `silent`, and
-- is heard just now. Others may have been held up, too, and nobody knows for how long: so it is like
-- the end of a blackout for all paces by which such a silence is too long (P42).
local function note_lateness(thr, int, silent)
  local late = silent - longest_silence(thr, int)
  if late <= 0 then
    return 0
  end
  for _, pace in ipairs(read_paces()) do
    if silent > longest_silence(pace.thr, pace.int) then
      pace.ended = space.last
    end
  end
  write_paces()
  return late
end

-- Counts one living instance of this pace less; what nobody needs any more is forgotten.
local function part(thr, int)
  local gone = pace_of(thr, int)
  gone.living = gone.living - 1
  if gone.living == 0 then
    paces[text(thr) .. ',' .. text(int)] = nil
    for index, pace in ipairs(paces) do
      if pace == gone then
        table.remove(paces, index)
        break
      end
    end
  end
  write_paces()
end

-- Counts one more living instance of this pace, which has lived by the pace `old_thr`, `old_int`
-- up to now, or not. Returns how much of steady time its pace has not observed.
local function join(thr, int, old_thr, old_int)
  local pace = pace_of(thr, int)
  if not pace then
    pace = {thr = thr, int = int, lost = 0, ended = 0, living = 0}
    paces[#paces + 1] = pace
    paces[text(thr) .. ',' .. text(int)] = pace
  end
  pace.living = pace.living + 1
  write_paces()
  if old_thr then
    part(old_thr, old_int)
  end
  return pace.lost
end

-- What `judge` has to know of a living instance.
local JUDGED = {':thr', ':int', ':beat', ':lost', ':graced'}

-- Returns how long it may still be silent at the instant `at`; if it is 0 or less, it is dead.
-- Who has been silent for too long gets one fresh threshold if there was a blackout in it, and no
-- other before it is heard again (I5, blackout): then also what is now :lost and :graced.
local function judge_silence(known, at)
  local thr, beat = known[1] + 0, known[3] + 0
  local lost, graced = known[4] + 0, known[5] + 0
  local pace = pace_of(thr, known[2] + 0)
  local left = thr - (at - math.max(beat, graced)) + (pace.lost - lost)
  if left <= 0 and graced == 0 and pace.ended > beat then
    return thr - (at - pace.ended), pace.lost, pace.ended
  end
  return left
end

local asking  -- what is known of the one who asks, once it was read

-- Tells whether `asker`, who is there, would find a living instance alive, if it were heard now: a
-- blackout up to now, or a jump of the clock, proves nothing.
local function is_seen_alive(known, asker)
  asking = asking or call('HMGET', hash_of(asker), ':state', ':beat', ':thr', ':int')
  local thr, int, at, watched = known[1] + 0, known[2] + 0, steady(), false
  if asking[1] == 'live' then
    local silent = at - asking[2]
    if at >= space.last and silent < math.floor(asking[3] / 64) then
      return judge_silence(known, at) > 0  -- it would not be written down
    end
    watched = silent <= longest_silence(asking[3] + 0, asking[4] + 0)
  end
  local gap = at - space.last
  if gap > longest_silence(thr, int) then
    if known[5] == '0' then
      return true
    end
    if not watched then
      at = at - gap + math.min(gap, int)
    end
  end
  return judge_silence(known, at) > 0
end

-- Tells whether an instance counts as alive; changes nothing.
local function is_alive(name)
  local known = call('HMGET', hash_of(name), ':thr', ':int', ':beat', ':lost', ':graced', ':state')
  return known[6] == 'live' and judge_silence(known, steady()) > 0
end
