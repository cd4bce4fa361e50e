-- Executes a batch of entries of an instance; without entries it is a heartbeat.
--
-- KEYS  see included/base.lua
-- ARGV  1 the :head that must be recorded: known, incarnation, before. known: journal stamp the
--         instance knows all up to, with INSTANT_DIGITS digits; before: the seq of its last batch
--         (P39, unique numbers). Ahead of it 'l' if the instance leaves, 'w' if no entry may be
--         refused alone (P34, all or none)
--       2 the one that is recorded then: known, incarnation, seq
--       3 threshold, interval, retention (µs), budget: how many slices of the dead this step may
--         take away
--       4 … four words for each entry: kind, key, value, after
--           +  add; after: own slice afterwards ('' if it leaves int64)    &  the same, folded
--           =  replace the own slice     !  move the epoch     *  clear (key and value empty)
--           ^  claim; value: value@stamp           -  forget the instance; value: its id
--         + & = ^ may be followed by g: not where the epoch has moved unknown to the caller
--         (P36, guarded release); + = ! by a condition (P35, conditions): c (cumulative) or
--         o (own slice), two signs, a number
--       last the time (µs), if it is not to be the server's
-- Reply 'at|again|results _ clear floor latest'    if there is nothing more to tell
--       {done, at|again|results, backlog, stuck, clear, floor, latest, key, epoch, …}
--           backlog: 1 if there are more moves to tell; if there are more slices of the dead to
--           take away, how many instances live, as all of them will do so; else 0
--       {done, at|again|results}            it was executed before; this is what was said then,
--                                           but for the results if the instance has left
--       {resume, last seq or '', born}      not executed: something else is known of the instance
--       {conflict, incarnation}  {stale}    not executed
--   results: "cumulative,slice" before the entry, with '?' behind if its condition does not
--   hold; or a sign: ! refused, - another was, / split, ~ moved; with ';' between
--@include lone
if lone_reply and not lone_change then
  return lone_reply
end

if not ARGV[5] then
--@include beat
  local at = ARGV[4]
  if not at then
    local time = redis.call('TIME')
    at = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
  end
  local reply = beat(KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], at)
  if reply then
    return reply
  end
end

--@include numbers
--@include announce
if lone_reply then
  publish({lone_change})
  return lone_reply
end

--@include fast_path
local common = read_common()
if common and not common.overdue then
  return run_common(common)
elseif common then
--@include fast_reaper
  local living, with_sums = fast_reap(common)
  if living then
    local told = run_common(common, with_sums)
    told[3] = tostring(living)
    return told
  end
end

--@include words
--@include base
--@include archive
--@include space
--@include observed
--@include sums
--@include registry
--@include reaper

if common then  -- it is overdue
  now = tonumber(common.at)
  take_space()
  local backlog, stuck = reap(tonumber(ARGV[10]), common.keys, 0)
  save_space()
  for index, total in ipairs(spread('HMGET', N, common.keys)) do
    common.sums[index + 9] = total
  end
  local reply = run_common(common, changed)
  reply[3], reply[4] = text(backlog), tostring(stuck)
  return reply
end

local FIRST, FOLLOWS, SINCE = 12, tonumber(ARGV[11]), ARGV[5]
local restarts, same_birth = false, nil
--@include step
--@include journal
--@include forgetting
--@include entries
--@include finish

local refusal = begin()
if refusal then
  return refusal
end

local refreshed, late = touch()
local at = math.max(space.clock + 1, now)
local backlog, stuck = reap(tonumber(ARGV[10]), keys, late)
local moves, last = catch_up()
local results = run_all(at, moved_since(), ARGV[9] == ATOMIC)
return finish({
  at = at, refreshed = refreshed, answer = text(at) .. '|0|' .. results, leaves = ARGV[9] == LEAVES,
  moves = moves, last = last, backlog = backlog, stuck = stuck,
})
