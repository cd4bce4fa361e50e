-- Has changes announced until a lease is over (P37, notifications).
--
-- KEYS  see included/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance; 3 lease (µs)
-- Reply {watched}
--@include base
--@include archive
--@include space

-- It makes no namespace. Where there is none, the lease goes by itself, a minute after its end. So
-- an instance that joins meanwhile is in time to keep it.
local MINUTE = 60000
take_space()
space.watch = math.max(space.watch, now + tonumber(ARGV[3]))
save_space()
if space.born == 0 then
  call('PEXPIRE', N, text(math.floor(ARGV[3] / 1000) + MINUTE))
end
return {WATCHED}
