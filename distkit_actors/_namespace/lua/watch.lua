-- Has changes announced until a lease is over (P37, notifications).
--
-- KEYS  see parts/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance; 3 lease (µs)
-- Reply {watched}
--@include base
--@include space

take_space()
birth()
space.watch = math.max(space.watch, now + tonumber(ARGV[3]))
save_space()
return {WATCHED}
