-- Takes an instance id over from the incarnation that was seen there, and from no other: a
-- late copy of an old request fences nobody (P25, opening).
--
-- KEYS  see included/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance
--       3 nonce: names this attempt; the same one gets the same answer
--       4 expected incarnation, 0 for none; 5 born: the namespace that was seen
--       6 '1' to inherit the slices of a living predecessor, else '0'
--       7 threshold, 8 interval, 9 retention (µs)
--       10 '1' to take it over from nobody who is alive, else '0'
--       11 what the instance says of itself
--       12 over how many parts it spreads the namespace
-- Reply {opened, incarnation, known, inherited, leftovers}    the last two 0 or 1
--       {conflict, incarnation}                               not executed; look again
--       {mismatch, partitions}      not executed: the living spread it over so many
--@include numbers
--@include announce
--@include base
--@include archive
--@include space
--@include observed
--@include sums
--@include registry

-- Whether all slices that a predecessor still has are on their way out (P18, empty ground). Then it
-- has done nothing and inherited nothing yet, or its last answer says that leftovers remain.
local function starts_afresh(inherits, head, reply)
  return string.find(reply, '|1|', 1, true) or inherits ~= '1' and string.find(head, ' 0$')
end

local function opened(inc, knows, inherits)
  local leftovers = inherits == '0' and has_slices(I) and '1' or '0'
  return {OPENED, inc, knows, inherits, leftovers}
end

take_space()
local old = call('HMGET', I, ':inc', ':nonce', ':state', ':hold', ':inherited', ':thr', ':int',
  ':swept', ':head', ':reply')
local holder = old[1] or '0'
if old[2] == ARGV[3] and space.born > 0 then
  return opened(holder, old[4], old[5])
elseif holder ~= ARGV[4] or ARGV[5] ~= text(space.born) or space.born == 0 then
  -- No namespace (born is 0): there is none to join.
  return {CONFLICT, holder}
elseif ARGV[10] == '1' and old[1] and is_alive(instance) then
  return {CONFLICT, holder}
end
local agreed, switched = agree(tonumber(ARGV[12]))
if not agreed then
  return mismatch()
end

hear()
local periods = {threshold = tonumber(ARGV[7]), interval = tonumber(ARGV[8]),
  retention = tonumber(ARGV[9])}
local lives = old[3] == LIVE and not switched
local lost = add_living(periods, lives and old[6], old[7])
local at = math.max(space.clock + 1, now)
space.clock = at
local inherited = ARGV[6] == '1' and lives and not starts_afresh(old[5], old[9], old[10])
  and '1' or '0'
local known = space.latest
if inherited == '1' or old[1] and count_slices(I) > MAX_PURGE then
  -- Its slices are still judged by moves after what the old one knew (P18, empty ground).
  known = tonumber(old[4])
end
write_record(I, at, ARGV[3], inherited, LIVE, periods, known, space.last, lost,
  tonumber(old[8] or space.clear), ARGV[11])
revive(periods.threshold, known)
if inherited == '0' then
  purge(at, periods, known)
end
save_space()
announce()
return opened(text(at), text(known), inherited)
