-- Executes heartbeats of several instances, each of which may be of another namespace. They are
-- what apply.lua would be called with; but they share the start of a script, and what time it is.
--
-- KEYS  two for each of them: the first two of included/base.lua
-- ARGV  1 ARGV 3 of apply.lua, the same for all
--       2 … three for each of them: its id, and ARGV 1 and 2 of apply.lua
--       last the time (µs), if it is not to be the server's
-- Reply {id and the reply of apply.lua, …}; nothing behind the id if nothing was done: then
--       apply.lua is to be called
--@include beat
local words = #KEYS / 2 * 3 + 1
local at, replies = ARGV[words + 1], {}
if not at then
  local time = redis.call('TIME')
  at = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
end
local key = 1
for word = 2, words, 3 do
  -- If one namespace is broken, the others are none the worse for it.
  local done, reply = pcall(beat, KEYS[key], KEYS[key + 1], ARGV[word + 1], ARGV[word + 2],
    ARGV[1], at)
  replies[#replies + 1] = ARGV[word] .. ' ' .. (done and reply or '')
  key = key + 2
end
return replies
