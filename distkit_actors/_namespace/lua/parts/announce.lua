-- Tells who watches what a step has changed (P37, notifications): these keys, or that it may be
-- any. The step has been done, so nothing may fail any more, least of all for want of the right to
-- publish. The channel is no key. The separator is a byte that no key has.
local function publish(keys, any)
  redis.pcall('PUBLISH', string.sub(KEYS[1], 1, -2) .. CHANNEL_SUFFIX,
    (any or #keys > MAX_CHANGED) and ANY_KEY or table.concat(keys, SEPARATOR))
end
