-- The common case of reaping, written out: some wait in the reap queue, nobody else may have died,
-- and no number is large. It does what included/reaper.lua would do. It needs none of the functions
-- of that, so it costs half as much. It reads and decides first. So where it leaves a step to the
-- rest of apply.lua, nothing has been done.
--
-- Returns how many instances live if there is more to do, else 0; and {key = its sum now} of the
-- sums that have changed, and their keys in order. Or it returns nil, and leaves it to the rest.
local function fast_reap(step)
  local call, ours, front = redis.call, KEYS[1], string.sub(KEYS[1], 1, -2)
  local A, D, space, steady = front .. 'a', front .. 'd', step.sums, step.steady
  local wanted, budget = step.keys, string.match(ARGV[3], '%d+$') + 0
  local due = (call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] or 0) + 0
  if budget == 0 or due <= steady
    or math.max(due, space[2] or 0, space[7] or 0, space[9] or 0) >= FAR then
    return nil
  end

  -- Which slices: first those in the keys of this step, then any of the oldest bodies.
  local queue, bodies, keys, slices = call('ZRANGE', D, 0, QUEUED_PER_STEP - 1), {}, {}, {}
  local function pick(body, key, slice)
    if slice and #keys < budget and not body[key] and string.byte(key) ~= COLON then
      keys[#keys + 1], slices[#keys + 1] = key, slice
      body[#body + 1], body[key] = key, true
    end
  end
  for index = 1, wanted[1] and #queue or 0 do
    if #keys == budget then
      break
    end
    bodies[index] = {}
    local found = call('HMGET', front .. INSTANCE_SUFFIX .. queue[index], unpack(wanted))
    for nth, slice in ipairs(found) do
      pick(bodies[index], wanted[nth], slice)
    end
  end
  for index, name in ipairs(queue) do
    if #keys == budget then
      break
    end
    local hash, body, few = front .. INSTANCE_SUFFIX .. name, bodies[index] or {}, budget - #keys
    bodies[index] = body
    local left = call('HLEN', hash) - OWN_FIELDS
    if left > #body then
      -- In a small hash its own fields are many, and later versions may have more of them.
      local most = left > OWN_FIELDS * OWN_FIELDS and few or few + 2 * OWN_FIELDS
      local page = call('HSCAN', hash, '0', 'COUNT', most)
      for nth = 1, #page[2], 2 do
        pick(body, page[2][nth], page[2][nth + 1])
      end
      if #body < left and page[1] ~= '0' then
        break
      end
    end
    if #body == 0 or #body < left and #keys < budget then
      return nil  -- its hash is gone, or has fields that are no slices
    end
  end
  if #keys == 0 or #keys < budget and #queue == QUEUED_PER_STEP then
    return nil  -- nothing is to be taken, or there is room for bodies behind these
  end

  local moved, late, clear = {}, {}, (space[3] or 0) + 0
  if (space[5] or '0') ~= '0' then
    moved = call('ZMSCORE', front .. 'm', unpack(keys))
    late = call('HMGET', front .. 'l', unpack(keys))
  end
  local sums, changed = call('HMGET', ours, unpack(keys)), {}
  for index, key in ipairs(keys) do
    local value = string.sub(slices[index], 1, -INSTANT_DIGITS - 2)
    local stamp = string.sub(slices[index], -INSTANT_DIGITS)
    if stamp + 0 >= math.max(clear, late[index] or moved[index] or 0) then
      local sum = changed[key] or sums[index] or '0'
      if #value > EXACT_DIGITS or #sum > EXACT_DIGITS then
        return nil
      elseif not changed[key] then
        changed[#changed + 1] = key
      end
      changed[key] = string.format('%.0f', sum - value)
    end
  end

  -- The first write is one that Redis refuses when it is out of memory; ':due' is 0 already.
  local words, zeros = {':due', '0'}, {}
  for _, key in ipairs(changed) do
    words[#words + 1], words[#words + 2] = key, changed[key]
    if changed[key] == '0' then
      zeros[#zeros + 1] = key
    end
  end
  call('HSET', ours, unpack(words))
  if zeros[1] then
    call('HDEL', ours, unpack(zeros))
  end
  local waiting = #queue
  for index, body in ipairs(bodies) do
    if body[1] then
      local name = queue[index]
      local hash = front .. INSTANCE_SUFFIX .. name
      call('HDEL', hash, unpack(body))
      if call('HLEN', hash) == OWN_FIELDS then  -- it retires
        waiting = waiting - 1
        call('ZREM', D, name)
        call('ZREM', front .. 'h', name)
        local retention = (call('HGET', hash, ':ret') or 0) + 0
        call('PEXPIRE', hash, string.format('%.0f', math.max(1, math.floor(retention / 1000))))
      end
    end
  end
  for index, key in ipairs(wanted) do
    space[index + 9] = changed[key] or space[index + 9]
  end
  collectgarbage('step', 32)  -- a little in each step, as in included/reaper.lua
  if waiting > 0 or call('ZCARD', D) > 0 then
    return call('ZCARD', A), changed
  end
  local to = string.format('%0' .. INSTANT_DIGITS .. '.0f', math.max(0, due - step.shift - 1))
  call('HSET', ours, ':due', string.format('%.0f', due), ':to',
    table.concat({to, space[3] or '0', space[4] or '0', space[5] or '0'}, ' '))
  return 0, changed
end
