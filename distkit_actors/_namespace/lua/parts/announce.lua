-- Tells who watches what a step has changed (P37, notifications): these keys, or that it may be
-- any. The step has been done, so nothing may fail any more, least of all for want of the right to
-- publish. The channel is no key. The separator is a byte that no key has. In a cluster, where the
-- channel is declared as if it were one, servers from 7.0 on tell those alone who listen to the
-- slot's own node.
local function publish(keys, any)
  local channel = string.sub(KEYS[1], 1, -2) .. CHANNEL_SUFFIX
  local sharded = redis.REDIS_VERSION_NUM and KEYS[#KEYS] == channel
  redis.pcall(sharded and 'SPUBLISH' or 'PUBLISH', channel,
    (any or #keys > MAX_CHANGED) and ANY_KEY or table.concat(keys, SEPARATOR))
end
