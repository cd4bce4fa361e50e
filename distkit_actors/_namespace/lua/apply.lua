-- Executes a batch of entries of an instance; without entries it is a heartbeat.
--
-- KEYS  see parts/base.lua
-- ARGV  1 the time, or '' for the server's (µs)
--       2 instance, 3 incarnation, 4 seq, 5 known: journal stamp the instance knows all up to
--       6 threshold, 7 interval, 8 retention (µs)
--       9 '1' if the instance leaves, 'w' if no entry may be refused alone (P34), else '0'
--      10 budget: how many slices of the dead this step may take away
--      11 before: the seq that must be the recorded one (P39, unique numbers)
--      12 … four words for each entry: kind, key, value, after
--           +  add; after: own slice afterwards ('' if it leaves int64)    &  the same, folded
--           =  replace the own slice     !  move the epoch     *  clear (key and value empty)
--           ^  claim; value: value@stamp           -  forget the instance; value: its id
--         + & = ^ may be followed by g: not where the epoch has moved unknown to the caller (P36);
--         + = ! by a condition (P35): c (cumulative) or o (own slice), two signs, a number
-- Reply {done, at|again|results, backlog, stuck, clear, floor, latest, key, epoch, …}
--           backlog: 1 if there is more to be told, or to be taken away from the dead
--       {done, at|again|results}            it was executed before; this is what was said then,
--                                           but for the results if the instance has left
--       {resume, last seq or '', born}      not executed: something else is known of the instance
--       {conflict, incarnation}  {stale}    not executed
--   results: "cumulative,slice" before the entry, with '?' behind if its condition does not
--   hold; or a sign: ! refused, - another was, / split, ~ moved; with ';' between
--@include compare
--@include quick
--@include base
--@include space
--@include observed
--@include sums
--@include registry
--@include reaper

if overdue then  -- but for the dead it is the common case
  local keys = {}
  for index = 13, #ARGV, 4 do
    keys[#keys + 1] = ARGV[index]
  end
  now = tonumber(overdue)
  take_space(call('HMGET', N, unpack(SPACE_FIELDS)))
  local backlog, stuck = reap(tonumber(ARGV[10]), keys, 0)
  save_space()
  answer = quick(overdue, changed)
  answer[3], answer[4] = backlog and '1' or '0', tostring(stuck)
  return answer
end

local FIRST = 12
local BEFORE = tonumber(ARGV[11])
local restarts, answers_us = false, nil
--@include step

read()
local refusal = judge()
if refusal then
  save_space()
  return refusal
end

local refreshed, late = touch()
local at = math.max(space.clock + 1, now)
local backlog, stuck = reap(tonumber(ARGV[10]), keys, late)
local moves, more = catch_up()
local latest = space.latest
answer = text(at) .. '|0|' .. run_all(at, moved_since(), ARGV[9] == 'w')
write_field(':seq', ARGV[4])
write_field(':reply', ARGV[9] == '1' and text(at) .. '|0|' or answer)
write_all(at)
if ARGV[9] == '1' then
  bury(instance, 'left')
end
local moved_now = space.latest ~= latest and #keys or 0
if refreshed or moved_now > 0 then
  forget_moves(moved_now)
end
save_space()
if ARGV[9] == '1' then
  release_space(pace.ret)
end
announce()
return with_journal({'done', answer, (backlog or more) and '1' or '0', tostring(stuck)}, moves,
  more or space.latest)
