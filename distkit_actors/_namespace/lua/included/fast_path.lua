-- Needs: numbers, announce

-- The common case, written out: a step that adds to slices or reads them. Its instance is known
-- here, has missed nothing and was heard lately; no deadline has passed, and the clock has not
-- jumped back. It does what the rest of apply.lua would do. The rest costs several times as much,
-- mostly for making its functions. So this comes ahead of them, and does not use them.
--
-- It has two parts. If only a deadline that has passed stands in the way, apply.lua reaps between
-- the two.

-- Reads what the step is about. Returns it, or nil for the rest of apply.lua; nothing is done here.
--   last, fields, own   the fields of the instance that were read: keys from index 3 to `last`
--   sums                those of the namespace: keys at the same index + 7
--   at, steady, shift   the time, that in steady time, and the difference
--   overdue             a deadline has passed: then there are also the `keys` by themselves
local function read_common()
  local call, ours, mine, first, head = redis.call, KEYS[1], KEYS[2], ARGV[5], ARGV[1]
  local atomic = string.sub(head, 1, 1) == ATOMIC
  if atomic then
    head = string.sub(head, 2)
  elseif head >= 'a' then  -- it leaves
    return nil
  end
  -- Tables have room for one entry from the start, as making room costs more than filling it,
  -- and numbers are made of strings by arithmetic, as tonumber reads them twice.
  local fields = {':head', ':until', first}
  local space = {':from', ':clock', ':clear', ':floor', ':latest', ':due', ':watch', ':shift',
    ':last', first}
  local last, seen = 2, #ARGV > 8 and {} or nil
  for index = 4, #ARGV - 1, 4 do
    local kind, key = ARGV[index], ARGV[index + 1]
    if kind ~= ADD and kind ~= FOLDED then
      local byte = string.byte(kind)
      if byte ~= BYTE_OF_ADD and byte ~= BYTE_OF_FOLDED then
        return nil
      end
    end
    if seen and seen[key] then
      return nil
    end
    last = last + 1
    if seen then
      seen[key], fields[last], space[last + 7] = true, key, key
    end
  end

  local own = call('HMGET', mine, unpack(fields, 1, last))
  if own[1] ~= head then
    return nil
  end
  local at = ARGV[4 * last - 4]
  if not at then
    local time = call('TIME')
    at = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
  end
  local now = at + 0
  local sums = call('HMGET', ours, unpack(space, 1, last + 7))
  local shift, latest = (sums[8] or 0) + 0, sums[5] or '0'
  if not sums[1] or now + shift < (sums[9] or 0) + 0 or now + shift >= own[2] + 0
    or string.match(head, '^%d+') + 0 < latest + 0 then
    return nil
  end
  local overdue = now + shift >= (sums[6] or 0) + 0
  -- All or none comes this way only if none can be refused (P34, all or none). Reaping might leave
  -- less room than there is now.
  if atomic and overdue then
    return nil
  end
  for nth = 3, atomic and last or 2 do
    local index, total = 4 * nth - 8, sums[nth + 7] or '0'
    if #ARGV[index + 2] > FOLD_DIGITS or #total > FOLD_DIGITS
      or own[nth] and ARGV[index + 3] == '' then
      return nil
    end
  end
  return {last = last, fields = fields, own = own, sums = sums, at = at, steady = now + shift,
    shift = shift, overdue = overdue, keys = overdue and {unpack(fields, 3, last)}}
end

-- Executes the step. `changed`: keys whose sums reaping has changed, each also as a name. Returns
-- the reply: a list if there was reaping, as more is to be said then.
local function run_common(common, changed)
  local call, ours, mine, last, at = redis.call, KEYS[1], KEYS[2], common.last, common.at
  local fields, own, sums, reaped = common.fields, common.own, common.sums, changed
  local now = at + 0
  if now <= (sums[2] or 0) + 0 then
    at = string.format('%.0f', (sums[2] or 0) + 1)
  end

  local padded = string.rep('0', INSTANT_DIGITS - #at) .. at
  local results, words, removed, made = {''}, {':head', ARGV[2], ':reply', '', '', ''}, {}, false
  local written = 4
  for nth = 3, last do
    local index = 4 * nth - 8
    local value, after = ARGV[index + 2], ARGV[index + 3]
    local key, total, slice, stamp = fields[nth], sums[nth + 7] or '0', '0', nil
    if own[nth] then
      slice = string.sub(own[nth], 1, -INSTANT_DIGITS - 2)
      stamp = string.sub(own[nth], -INSTANT_DIGITS - 1)
    else
      after = value
    end
    local result, word = total .. ',' .. slice, ARGV[index]
    -- Nothing was missed, so what is guarded is executed.
    local rest = #word > 1 and string.match(word, '^.' .. GUARDED .. '?(.*)$') or ''
    if rest ~= '' and not holds(string.sub(rest, 1, 1) == OF_OWN and slice or total,
        string.sub(rest, 2, 3), string.sub(rest, 4)) then
      result = result .. UNMET
    elseif word ~= ADD and string.byte(word) == BYTE_OF_FOLDED
      and #string.gsub(total, '-', '') > FOLD_DIGITS then
      result = SPLIT
    elseif value ~= '0' then
      local sum = after ~= '' and increase(ours, key, value)
      if not sum then
        result = REFUSED
      else
        if sum == 0 then
          call('HDEL', ours, key)
        end
        if after == '0' then
          removed[#removed + 1] = key
        else
          made = made or not stamp
          words[written + 1], words[written + 2] = key, after .. (stamp or '@' .. padded)
          written = written + 2
        end
      end
    end
    results[nth - 2] = result
  end
  local answer = at .. '|0|' .. table.concat(results, ';', 1, last - 2)
  words[4] = answer
  call('HSET', mine, unpack(words, 1, written))
  if #removed > 0 then
    call('HDEL', mine, unpack(removed))
  end
  if made then
    call('HSET', ours, ':clock', at, ':from', padded .. string.sub(sums[1], INSTANT_DIGITS + 1))
  end
  local watch = sums[7]
  if watch and now < watch + 0 then
    changed = changed or {}
    for index = 5, written, 2 do
      removed[#removed + 1] = words[index]
    end
    for _, key in ipairs(removed) do
      if not changed[key] then
        changed[#changed + 1] = key
      end
    end
    if #changed > 0 then
      publish(changed)
    end
  end
  local clear, floor, latest = sums[3] or '0', sums[4] or '0', sums[5] or '0'
  if reaped then
    return {DONE, answer, '0', '0', clear, floor, latest}
  end
  return table.concat({answer, '0', clear, floor, latest}, ' ')
end
