-- Needs: base

-- Finds out whether the user may call all commands of the scripts that write. Such a script must
-- not fail half way: Redis does not undo what came before.
--
-- To be called only where there is a namespace, whose :pad is there. Then none of these changes
-- anything. No key has the name `nothing`. It is none that an instance could have: their names end
-- with an id, which may be any text.
local function try_commands()
  local nothing = N .. ':'
  for _, command in ipairs({
    {'HINCRBY', N, ':born', '0'}, {'HSET', N, ':pad', PAD}, {'HDEL', N, ':'},
    {'PERSIST', nothing}, {'HGET', N, ':born'}, {'HLEN', N}, {'EXISTS', N}, {'HSCAN', nothing, '0'},
    {'HRANDFIELD', nothing}, {'UNLINK', nothing}, {'PEXPIRE', nothing, '1'},
    {'ZADD', A, 'XX', '0', ''}, {'ZREM', A, ''}, {'ZCARD', A}, {'ZSCAN', A, '0'},
    {'ZSCORE', A, ''}, {'ZMSCORE', A, ''}, {'ZRANGE', D, '0', '0'}, {'ZREVRANGE', D, '0', '0'},
    {'ZRANGEBYSCORE', M, '0', '0'}, {'HMGET', L, ''},
  }) do
    call(unpack(command))
  end
end
