-- Marks an instance dead and removes some of its slices, for an onlooker (P43, looking).
--
-- KEYS  see included/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 ''; 3 the instance to be forgotten
-- Reply {forgotten, how many of its slices are left, how many are gone}
--@include numbers
--@include announce
--@include base
--@include archive
--@include space
--@include observed
--@include sums
--@include registry
--@include rights

take_space()
if space.born == 0 then  -- there is nobody, and this would make a namespace
  return {FORGOTTEN, '0', '0'}
end
try_commands()
local retention = tonumber(call('HGET', hash_of(ARGV[3]), ':ret') or 0)
local left, gone = forget(ARGV[3])
save_space()
if retention > 0 then
  retire_space(retention)
end
announce()
return {FORGOTTEN, left, gone}
