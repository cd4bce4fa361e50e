-- Says which incarnation holds an instance id, whether it is alive, and in which namespace (P25).
--
-- As the first request of every instance it also finds out whether the user may call what the
-- other scripts call. They must not fail half way: Redis does not undo what came before.
--
-- KEYS  see parts/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance
-- Reply {peeked, incarnation or 0, born, '1' if that incarnation counts as alive}
--@include base
--@include space
--@include observed

-- None of these changes anything.
local function try_commands()
  local nothing = hash_of('') .. ':'
  for _, command in ipairs({
    {'HINCRBY', N, ':born', '0'}, {'HDEL', N, ':'}, {'PERSIST', N}, {'HGET', N, ':born'},
    {'HLEN', N}, {'EXISTS', N}, {'HSCAN', nothing, '0'}, {'HRANDFIELD', nothing},
    {'UNLINK', nothing}, {'PEXPIRE', nothing, '1'}, {'ZADD', A, 'XX', '0', ''}, {'ZREM', A, ''},
    {'ZCARD', A}, {'ZSCAN', A, '0'}, {'ZSCORE', A, ''}, {'ZMSCORE', A, ''}, {'ZRANGE', D, '0', '0'},
    {'ZREVRANGE', D, '0', '0'}, {'ZRANGEBYSCORE', M, '0', '0'}, {'HMGET', L, ''},
  }) do
    call(unpack(command))
  end
end

take_space()
local born = birth()
save_space()
try_commands()
local holder = call('HGET', I, ':inc')
return {PEEKED, holder or '0', born, holder and is_alive(instance) and '1' or '0'}
