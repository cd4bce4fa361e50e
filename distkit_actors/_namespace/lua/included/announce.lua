-- Tells those who watch what a step has changed (P37, notifications): `keys`, or that it may be any
-- key. The step has been done, so nothing may fail any more, not even for want of the right to
-- publish. The channel is no key. The separator is a byte that no key has. In a cluster the channel
-- is declared as if it were a key. There servers from 7.0 on tell only listeners at the slot's
-- node.
local function publish(keys, any)
  local channel = string.sub(KEYS[1], 1, -2) .. CHANNEL_SUFFIX
  local sharded = redis.REDIS_VERSION_NUM and KEYS[#KEYS] == channel
  redis.pcall(sharded and 'SPUBLISH' or 'PUBLISH', channel,
    (any or #keys > MAX_CHANGED) and ANY_KEY or table.concat(keys, SEPARATOR))
end
