-- A heartbeat, written out ahead of the rest, like a lone entry: included/lone.lua says what :head,
-- :until, :from and :to are. It is a step without entries, of an instance that has missed nothing
-- and was silent for no longer than its pace allows. All who live have the same periods. Then no
-- blackout came since it was heard (P24, blackout). As long as nobody is dead, only its own sign of
-- life is written down. The rest of apply.lua would do the same at ten times the cost. Any other
-- step is left to the rest; then nothing has been done here. A dead instance is left to it, too:
-- its :until is 0, so it seems to have been silent for too long.
--
-- Makes `beat`. beats.lua calls it again and again, with the same time and limits. So what follows
-- from these and from the shift is kept for the next call, and instants are compared as strings.

-- Executes the heartbeat of the instance whose hash is `mine` in the namespace `ours`, at the
-- instant `at`. `head`, `next_head` and `limits` are what ARGV 1 to 3 of apply.lua are. Returns the
-- reply, nil if it was left.
local beat
do
  local call, sub, format = redis.call, string.sub, string.format
  local same_shift  -- for which these hold:
  local threshold, pace, later, steady, deadline, till, least

  -- As many digits as INSTANT_DIGITS says. To make them in halves takes a third of what it takes to
  -- make them in one piece.
  local function instant(number)
    local low = number % HALF_INSTANT
    return format(TWO_HALVES, (number - low) / HALF_INSTANT, low)
  end

  local function prepare(shift, limits, at)
    local first, second = string.match(limits, '^(%d+) (%d+) ')
    local now, interval = at + shift, second + 0
    threshold = first + 0
    local unnoticed, recent = threshold - interval, math.floor(threshold / RECENT_PART)
    local period = math.min(interval, math.floor(unnoticed * PERIOD_TENTHS / 10))
    pace = first .. ',' .. second .. ','
    later, steady = instant(at + 1) .. '|0|', shift == '0' and at or instant(now)
    till, deadline = instant(now + recent), instant(now + threshold)
    least = instant(math.max(0, now + recent - math.floor((period + unnoticed) / 2)))
    same_shift = shift
  end

  beat = function(ours, mine, head, next_head, limits, at)
    local own = call('HMGET', mine, ':head', ':until')
    if own[1] ~= head then
      return nil
    end
    local space = call('HMGET', ours, ':from', ':to', ':latest', ':paces')
    local from, to, latest = space[1], space[2], space[3] or '0'
    if not from or #at ~= INSTANT_DIGITS or from >= at or to < '1' or latest >= head then
      return nil
    end
    local shift = #from > INSTANT_DIGITS and string.match(from, ' (%d+)') or '0'
    if shift ~= same_shift then
      prepare(shift, limits, at)
    end
    local A, overdue = sub(ours, 1, -2) .. 'a', at >= to
    local noted = steady < own[2]  -- the last sign of life is as good as this one
    if not noted then
      if own[2] < least or sub(space[4] or '', 1, #pace) ~= pace
        or string.find(space[4], ';', 1, true) or at + threshold >= FAR then
        return nil
      end
      if latest ~= '0' then  -- moves may be old enough to be forgotten, or many enough to archive
        local M, retention = sub(ours, 1, -2) .. 'm', string.match(limits, ' %d+ (%d+)')
        local horizon = format('%.0f', at - retention)
        local oldest = string.match(call('HGET', ours, ':segments') or '', '^%d+,%d+,(%d+)')
        if call('ZRANGEBYSCORE', M, '-inf', horizon, 'LIMIT', 0, 1)[1]
          or oldest and oldest - horizon <= 0
          or call('ZCARD', M) >= JOURNAL_KEPT + ARCHIVE_AT_LEAST then
          return nil
        end
      end
    end
    -- A deadline has passed that was put off since, or somebody is dead.
    if overdue and (sub(limits, -2) == ' 0'
      or (call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] or steady) - steady <= 0) then
      return nil
    end

    local answer = noted and at .. '|0|' or later
    if noted then
      call('HSET', mine, ':head', next_head, ':reply', answer)
    else
      -- First of all, as nothing is done if it fails.
      call('ZADD', A, deadline, sub(mine, #ours + 2))
      call('HSET', mine, ':head', next_head, ':reply', answer, ':beat', steady, ':until', till)
      call('HSET', ours, ':clock', at, ':from', at .. sub(from, INSTANT_DIGITS + 1),
        ':last', steady)
    end
    if overdue then
      local due = call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] + 0
      to = format('%0' .. INSTANT_DIGITS .. '.0f', due - shift - 1) .. sub(to, INSTANT_DIGITS + 1)
      call('HSET', ours, ':due', format('%.0f', due), ':to', to)
    end
    return answer .. ' ' .. to
  end
end
