-- Whether a condition on an entry holds (P35). Numbers are int64 as decimal strings, without
-- leading zeros, which Lua's own numbers could not tell apart (P2, exact integers).
local function holds(current, sign, number)
  local ascending
  if current == number then
    return sign == '==' or sign == '<=' or sign == '>='
  elseif string.sub(current, 1, 1) ~= '-' then
    ascending = string.sub(number, 1, 1) ~= '-'
      and (#current < #number or #current == #number and current < number)
  else
    ascending = string.sub(number, 1, 1) ~= '-'
      or #current > #number or #current == #number and current > number
  end
  if ascending then
    return sign == '<.' or sign == '<=' or sign == '~='
  end
  return sign == '>.' or sign == '>=' or sign == '~='
end
