-- Goes around each script but beats.lua, which does the same for each of its heartbeats.
--
-- The last argument is an id of the request. The reply repeats it: as its last word if it is a
-- list, and else ahead of it. So nobody takes the reply to another request for its own.
local id = ARGV[#ARGV]
ARGV[#ARGV] = nil
local function answer()
--@script
end
local reply = answer()
if type(reply) == 'table' then
  reply[#reply + 1] = id
  return reply
end
return id .. ' ' .. reply
