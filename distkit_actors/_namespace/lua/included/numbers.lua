-- Numbers of counters: int64 as decimal strings, without leading zeros. Lua's own numbers are
-- doubles, which could not tell them apart (P2, exact integers).

-- Tells whether a condition on an entry holds (P35, conditions).
local function holds(current, sign, number)
  local ascending
  if current == number then
    return sign == EQUAL or sign == AT_MOST or sign == AT_LEAST
  elseif string.sub(current, 1, 1) ~= '-' then
    ascending = string.sub(number, 1, 1) ~= '-'
      and (#current < #number or #current == #number and current < number)
  else
    ascending = string.sub(number, 1, 1) ~= '-'
      or #current > #number or #current == #number and current > number
  end
  if ascending then
    return sign == LESS or sign == AT_MOST or sign == UNEQUAL
  end
  return sign == GREATER or sign == AT_LEAST or sign == UNEQUAL
end

-- Adds to a sum; returns the new one (exact only as to whether it is 0), or false if it would leave
-- int64 (P4, no partial effect). Any other error ends the script, as if it were not caught.
local function increase(hash, key, amount)
  local total = redis.pcall('HINCRBY', hash, key, amount)
  if type(total) ~= 'table' then
    return total
  elseif string.find(total.err, 'overflow', 1, true) then
    return false
  end
  error(total.err, 0)
end
