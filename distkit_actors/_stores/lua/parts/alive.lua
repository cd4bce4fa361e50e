-- Who counts as alive.

-- Tells whether an instance is not taken for dead and was heard within its threshold.
local function is_alive(name, state, threshold)
  local deadline = tonumber(call('ZSCORE', A, name) or 0)
  -- After a blackout everybody has a fresh threshold (P24).
  return state == 'live' and math.max(deadline, space.grace + tonumber(threshold)) > now
end
