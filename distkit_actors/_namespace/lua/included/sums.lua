-- Needs: numbers, announce, base, space

-- Epochs and sums.

-- {key = its sum, false for none}, of those that were read; a sum that changes is dropped.
local sum = {}

-- What is to be announced (P37, notifications): keys whose sum this step has changed, each once;
-- and as names.
local changed, cleared_all = {}, false

local function note(key)
  if now < space.watch and not changed[key] and #changed <= MAX_CHANGED then
    changed[key] = true
    changed[#changed + 1] = key
  end
end

-- Tells those who watch what this step has changed.
local function announce()
  if cleared_all or #changed > 0 then
    publish(changed, cleared_all)
  end
end

-- The sum of a key as a string.
local function total_of(key)
  local total = sum[key]
  if total == nil then
    total = call('HGET', N, key)
    sum[key] = total
  end
  return total or '0'
end

-- Splits value@stamp into two strings, and into a string and a number.
local function split(slice)
  local at = string.find(slice, '@', 1, true)
  return string.sub(slice, 1, at - 1), string.sub(slice, at + 1)
end

local function parse(slice)
  local value, stamp = split(slice)
  return value, tonumber(stamp)
end

-- {key = epoch} of many keys: a slice counts iff its stamp is not below it (P7, key epochs; P8,
-- stale slices).
local function epochs_of(keys)
  local epochs = {}
  if space.latest == 0 then
    for _, key in ipairs(keys) do
      epochs[key] = 0  -- nothing has moved, nor was there a clear
    end
    return epochs
  end
  local moved, late = spread('ZMSCORE', M, keys), spread('HMGET', L, keys)
  for index, key in ipairs(keys) do
    epochs[key] = math.max(space.clear, tonumber(late[index] or moved[index] or 0))
  end
  return epochs
end

-- Writes a sum without noting that it changed.
local function put_sum(key, value)
  if value == '0' then
    guard()
    call('HDEL', N, key)
  else
    call('HSET', N, key, value)
  end
  sum[key] = value ~= '0' and value
end

-- Adds amounts to a sum one after the other, all or none of them (P4, no partial effect).
local function add(key, first, second, third)
  local before = second and total_of(key)
  local total = increase(N, key, first)
  if not total then
    return false
  end
  if second then
    total = increase(N, key, second)
    if total and third then
      total = increase(N, key, third)
    end
    if not total then
      put_sum(key, before)
      return false
    end
  end
  if total == 0 then
    call('HDEL', N, key)
  end
  sum[key] = nil
  note(key)
  return true
end

-- What to add in order to take a value away. The lowest int64 has no positive counterpart.
local function minus(value)
  if value == INT64_MIN then
    return INT64_MAX, '1'
  elseif string.sub(value, 1, 1) == '-' then
    return string.sub(value, 2)
  end
  return '-' .. value
end

-- Changes a sum from containing `old` to containing `new`, judged by the final sum: where
-- one order of the two steps would leave int64 on the way, the other does not (P4, no partial
-- effect).
local function replace(key, old, new)
  if old == new then
    return true
  elseif old == '0' then
    return add(key, new)
  end
  local first, second = minus(old)
  if new == '0' then
    return add(key, first, second)
  elseif second then
    return add(key, first, second, new) or add(key, new, first, second)
  end
  return add(key, first, new) or add(key, new, first)
end

-- Makes a sum a value, whatever it was.
local function set_sum(key, value)
  put_sum(key, value)
  note(key)
end

-- Removes every sum.
local function forget_sums()
  guard()
  call('UNLINK', N)
  save_space(true)
  sum, cleared_all = {}, now < space.watch
end

-- Takes `slices` of `keys` of the instance hash `name` away and out of their sums, at most `limit`
-- of them. Some keys may have no slice. Returns how many are gone, and as {key, slice, …} those
-- whose sum would leave int64 without them (I12, overflow).
local function take_away(name, keys, slices, limit, epochs)
  epochs = epochs or epochs_of(keys)
  local gone, count, stuck = {}, 0, {}
  for index = 1, #keys do
    if count == limit then
      break
    end
    local key, slice = keys[index], slices[index]
    if slice then
      local value, stamp = split(slice)
      if stamp + 0 < epochs[key] or add(key, minus(value)) then
        count = count + 1
        gone[count] = key
      else
        stuck[#stuck + 1] = key
        stuck[#stuck + 1] = slice
      end
    end
  end
  if count > 0 then
    guard()
    spread('HDEL', name, gone)
  end
  return count, stuck
end

-- Some slices of an instance hash, `count` or all if there are fewer: keys and slices.
local function some_slices(name, count)
  local found = call('HRANDFIELD', name, count + OWN_FIELDS, 'WITHVALUES')
  local keys, slices = {}, {}
  for index = 1, #found, 2 do
    if string.byte(found[index]) ~= COLON and #keys < count then
      keys[#keys + 1] = found[index]
      slices[#keys] = found[index + 1]
    end
  end
  return keys, slices
end

-- How many slices an instance hash has.
local function count_slices(name)
  local count = call('HLEN', name) - OWN_FIELDS
  if count > 0 then  -- of a later version may be:
    for _, spare in ipairs(call('HMGET', name, ':1', ':2', ':3', ':4', ':5', ':6', ':7', ':8')) do
      count = count - (spare and 1 or 0)
    end
  end
  return math.max(0, count)
end

local function has_slices(name)
  return count_slices(name) > 0
end
