-- Executes heartbeats of several instances, each of which may be of another namespace. They are
-- what apply.lua would be called with; but they share the start of a script, and what time it is.
--
-- KEYS  two for each of them: the first two of included/base.lua
-- ARGV  1 ARGV 3 of apply.lua, the same for all
--       2 … two for each of them: ARGV 1 and 2 of apply.lua
--       last the time (µs), if it is not to be the server's
-- Reply {the reply of apply.lua, or '' if nothing was done, …}: then apply.lua is to be called
--@include beat
local at, replies = #ARGV % 2 == 0 and ARGV[#ARGV], {}
if not at then
  local time = redis.call('TIME')
  at = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
end
for index = 1, #KEYS, 2 do
  -- If one namespace is broken, the others are none the worse for it.
  local done, reply = pcall(beat, KEYS[index], KEYS[index + 1], ARGV[index + 1], ARGV[index + 2],
    ARGV[1], at)
  replies[#replies + 1] = done and reply or ''
end
return replies
