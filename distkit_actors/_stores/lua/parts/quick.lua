-- The common case, written out straight: a step that adds to slices or reads them, of an
-- instance that is known here, has missed nothing, has been heard of lately, and finds no
-- deadline passed. It does as the rest of apply.lua would; anything else is left to that, which
-- costs several times as much, most of it for making its functions.
--
-- Returns what to answer, or nil if the case is another one: then nothing has been done.
local function quick()
  local call, ours, mine = redis.call, KEYS[1], KEYS[7]
  if ARGV[9] ~= '0' or ARGV[11] ~= '' then
    return nil
  end
  local fields = {':inc', ':seq', ':state', ':beat', ':thr', ':ret', ':hold'}
  local space = {':born', ':clock', ':grace', ':clear', ':floor', ':latest', ':due'}
  local last, seen = 7, {}
  for index = 12, #ARGV, 4 do
    local kind, key = string.sub(ARGV[index], 1, 1), ARGV[index + 1]
    if kind ~= '+' and kind ~= '&' or seen[key] then
      return nil
    end
    last = last + 1
    seen[key], fields[last], space[last] = true, key, key
  end
  space[last + 1] = ':watch'

  local own = call('HMGET', mine, unpack(fields))
  if own[1] ~= ARGV[3] or own[3] ~= 'live' or own[5] ~= ARGV[6] or own[6] ~= ARGV[8]
    or own[7] ~= ARGV[5] or tonumber(own[2]) + 1 ~= tonumber(ARGV[4]) then
    return nil
  end
  local now = tonumber(ARGV[1])
  if not now then
    local time = call('TIME')
    now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  end
  if now - tonumber(own[4]) >= math.floor(tonumber(ARGV[6]) / 64) then
    return nil
  end
  local sums = call('HMGET', ours, unpack(space))
  local clock, known = tonumber(sums[2] or 0), tonumber(ARGV[5])
  local clear, latest = sums[4] or '0', sums[6] or '0'
  if not sums[1] or now - clock > tonumber(ARGV[7]) or known < tonumber(clear)
    or known < tonumber(latest) or now >= tonumber(sums[7] or 0) then
    return nil
  end

  local at = string.format('%.0f', math.max(clock + 1, now))
  local results, words, removed, made = {}, {':seq', ARGV[4], ':reply', ''}, {}, false
  for nth = 8, last do
    local index = 4 * nth - 20
    local value, after = ARGV[index + 2], ARGV[index + 3]
    local key, total, slice, stamp = fields[nth], sums[nth] or '0', '0', nil
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
    elseif string.sub(word, 1, 1) == '&' and #string.gsub(total, '-', '') > 18 then
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
            words[#words + 1] = key
            words[#words + 1] = after .. (stamp or '@' .. at)
          end
        elseif string.find(sum.err, 'overflow', 1, true) then
          result = '!'
        else
          error(sum.err, 0)
        end
      end
    end
    results[nth - 7] = result
  end
  local answer = at .. '|0|' .. table.concat(results, ';')
  words[4] = answer
  call('HSET', mine, unpack(words))
  if #removed > 0 then
    call('HDEL', mine, unpack(removed))
  end
  if made then
    call('HSET', ours, ':clock', at)
  end
  local watch = sums[last + 1]
  if watch and now < tonumber(watch) then  -- announce what changed (P37)
    local changed = removed
    for index = 5, #words, 2 do
      changed[#changed + 1] = words[index]
    end
    if #changed > 0 then
      redis.pcall('PUBLISH', string.sub(ours, 1, -2) .. 'c',
        #changed > 100 and '*' or table.concat(changed, ':'))
    end
  end
  return {'done', answer, '0', '0', clear, sums[5] or '0', latest}
end

local answer = quick()
if answer then
  return answer
end
