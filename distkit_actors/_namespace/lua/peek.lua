-- Says which incarnation holds an instance id, whether it is alive, and in which namespace (P25,
-- opening).
--
-- It is the first request of every instance. So it also finds out whether the user may call all
-- commands of the other scripts. They must not fail half way: Redis does not undo what came before.
--
-- KEYS  see included/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance
-- Reply {peeked, incarnation or 0, born, '1' if that incarnation counts as alive}
--@include base
--@include archive
--@include space
--@include observed
--@include rights

take_space()
local born = birth()
save_space()
try_commands()
local holder = call('HGET', I, ':inc')
return {PEEKED, holder or '0', born, holder and is_alive(instance) and '1' or '0'}
