local ADD, FOLDED = 43, 38  -- + and &

-- The common case, written out straight: a step that adds to slices or reads them, of an
-- instance that is known here, has missed nothing, has been heard of lately, and finds no
-- deadline passed, nor that the clock has jumped back. It does as the rest of apply.lua would;
-- anything else is left to that, which costs several times as much, most of it for making its
-- functions.
--
-- Returns what to answer, or nil if the case is another one: then nothing has been done. If it is
-- another one only for a deadline, it returns the time too; called again with that, once the dead
-- have been seen to, it answers. `changed`: what that has changed, as in parts/sums.lua.
local function quick(seen_to, changed)
  local call, ours, mine, first = redis.call, KEYS[1], KEYS[7], ARGV[13]
  if ARGV[9] ~= '0' then
    return nil
  end
  -- Tables have room for one entry from the start, as making room costs more than filling it,
  -- and numbers are made of strings by arithmetic, as tonumber reads them twice.
  local fields = {':inc', ':seq', ':state', ':beat', ':hold', first}
  local space = {':born', ':clock', ':clear', ':floor', ':latest', ':due', ':watch', ':shift',
    ':last', first}
  local last, seen = 5, #ARGV > 15 and {} or nil
  for index = 12, #ARGV, 4 do
    local kind, key = string.byte(ARGV[index]), ARGV[index + 1]
    if kind ~= ADD and kind ~= FOLDED or seen and seen[key] then
      return nil
    end
    last = last + 1
    if seen then
      seen[key], fields[last], space[last + 4] = true, key, key
    end
  end

  local own = call('HMGET', mine, unpack(fields, 1, last))
  if own[1] ~= ARGV[3] or own[3] ~= 'live' or own[5] ~= ARGV[5] or own[2] ~= ARGV[11] then
    return nil
  end
  local at = seen_to or ARGV[1]
  if at == '' then
    local time = call('TIME')
    at = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
  end
  local now, recent = at + 0, math.floor(ARGV[6] / 64)
  local since = now - own[4]
  if since >= recent then
    return nil
  end
  local sums = call('HMGET', ours, unpack(space, 1, last + 4))
  local shift, clear, latest = (sums[8] or 0) + 0, sums[3] or '0', sums[5] or '0'
  if not sums[1] or now + shift < (sums[9] or 0) + 0 or since + shift >= recent
    or clear ~= '0' and ARGV[5] + 0 < clear + 0
    or latest ~= ARGV[5] and ARGV[5] + 0 < latest + 0 then
    return nil
  elseif now + shift >= (sums[6] or 0) + 0 and not seen_to then
    return nil, at
  end
  if now <= (sums[2] or 0) + 0 then
    at = string.format('%.0f', (sums[2] or 0) + 1)
  end

  local results, words, removed, made = {''}, {':seq', ARGV[4], ':reply', '', '', ''}, {}, false
  local written = 4
  for nth = 6, last do
    local index = 4 * nth - 12
    local value, after = ARGV[index + 2], ARGV[index + 3]
    local key, total, slice, stamp = fields[nth], sums[nth + 4] or '0', '0', nil
    if own[nth] then
      local cut = string.find(own[nth], '@', 1, true)
      slice, stamp = string.sub(own[nth], 1, cut - 1), string.sub(own[nth], cut)
    else
      after = value
    end
    local result, word = total .. ',' .. slice, ARGV[index]
    -- Nothing was missed, so a guard (g) is satisfied.
    local rest = #word > 1 and string.match(word, '^.g?(.*)$') or ''
    if rest ~= '' and not holds(string.sub(rest, 1, 1) == 'o' and slice or total,
        string.sub(rest, 2, 3), string.sub(rest, 4)) then
      result = result .. '?'
    elseif string.byte(word) == FOLDED and #string.gsub(total, '-', '') > 18 then
      result = '/'
    elseif value ~= '0' then
      if after == '' then
        result = '!'
      else
        local sum = redis.pcall('HINCRBY', ours, key, value)
        if type(sum) ~= 'table' then
          if sum == 0 then
            call('HDEL', ours, key)
          end
          if after == '0' then
            removed[#removed + 1] = key
          else
            made = made or not stamp
            words[written + 1], words[written + 2] = key, after .. (stamp or '@' .. at)
            written = written + 2
          end
        elseif string.find(sum.err, 'overflow', 1, true) then
          result = '!'
        else
          error(sum.err, 0)
        end
      end
    end
    results[nth - 5] = result
  end
  local answer = at .. '|0|' .. table.concat(results, ';', 1, last - 5)
  words[4] = answer
  call('HSET', mine, unpack(words, 1, written))
  if #removed > 0 then
    call('HDEL', mine, unpack(removed))
  end
  if made then
    call('HSET', ours, ':clock', at)
  end
  local watch = sums[7]
  if watch and now < watch + 0 then  -- announce what changed (P37, notifications)
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
      redis.pcall('PUBLISH', string.sub(ours, 1, -2) .. 'c',
        #changed > 100 and '*' or table.concat(changed, ':'))
    end
  end
  return {'done', answer, '0', '0', clear, sums[4] or '0', latest}
end

local answer, overdue = quick()
if answer then
  return answer
end
