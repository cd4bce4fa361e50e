-- A heartbeat, written out ahead of the rest, like a lone entry: included/lone.lua says what :head,
-- :until, :from and :to are. It is a step without entries, of an instance that has missed nothing
-- and was silent for no longer than its pace allows. All who live have the same periods. Then no
-- blackout came since it was heard (P24, blackout). As long as nobody is dead, only its own sign of
-- life is written down. The rest of apply.lua would do the same at five times the cost. Any other
-- step is left to the rest; then nothing has been done here. A dead instance is left to it, too:
-- its :until is 0, so it seems to have been silent for too long.
--
-- Makes `beat_reply`, nil if it was left.
local beat_reply
if not ARGV[5] then
  local call, ours, mine, head, at = redis.call, KEYS[1], KEYS[2], ARGV[1], ARGV[4]
  local own = call('HMGET', mine, ':head', ':until', ':thr', ':int')
  local space = own[1] == head and call('HMGET', ours, ':from', ':to', ':latest', ':paces') or {}
  local from, to, latest = space[1], space[2], space[3] or '0'
  if from and not at then
    local time = call('TIME')
    at = time[1] .. string.sub('000000', #time[2] + 1) .. time[2]
  end
  if from and #at == INSTANT_DIGITS and from < at and '1' <= to and latest < head then
    local A, threshold, unnoticed = string.sub(ours, 1, -2) .. 'a', own[3] + 0, own[3] - own[4]
    local shift = (string.match(from, ' (%d+)') or 0) + 0
    local steady, recent = at + shift, math.floor(threshold / RECENT_PART)
    local silent, overdue, usual = steady - own[2] + recent, at >= to, true
    local noted = silent < recent  -- the last sign of life is as good as this one
    if not noted then
      local period = math.min(own[4] + 0, math.floor(unnoticed * PERIOD_TENTHS / 10))
      usual = silent <= math.floor((period + unnoticed) / 2)
        and not string.find(space[4], ';', 1, true)
      if usual and latest ~= '0' then  -- moves may be old enough to be forgotten
        local M, retention = string.sub(ours, 1, -2) .. 'm', string.match(ARGV[3], ' %d+ (%d+)')
        local horizon = string.format('%.0f', at - retention)
        usual = not call('ZRANGEBYSCORE', M, '-inf', horizon, 'LIMIT', 0, 1)[1]
      end
    end
    if usual and overdue then  -- a deadline has passed that was put off since, or somebody is dead
      usual = string.sub(ARGV[3], -2) ~= ' 0'
        and call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] - steady > 0
    end
    if usual then
      local answer = (noted and at or string.format('%.0f', at + 1)) .. '|0|'
      if noted then
        call('HSET', mine, ':head', ARGV[2], ':reply', answer)
      else
        local heard = string.format('%.0f', steady)
        call('HSET', mine, ':head', ARGV[2], ':reply', answer, ':beat', heard,
          ':until', string.format('%0' .. INSTANT_DIGITS .. '.0f', steady + recent))
        call('ZADD', A, string.format('%.0f', steady + threshold),
          string.sub(mine, #ours + 2))
        call('HSET', ours, ':clock', at, ':from', at .. string.sub(from, INSTANT_DIGITS + 1),
          ':last', heard)
      end
      if overdue then
        local due = call('ZRANGE', A, 0, 0, 'WITHSCORES')[2] + 0
        to = string.format('%0' .. INSTANT_DIGITS .. '.0f', due - shift - 1)
          .. string.sub(to, INSTANT_DIGITS + 1)
        call('HSET', ours, ':due', string.format('%.0f', due), ':to', to)
      end
      beat_reply = answer .. ' ' .. to
    end
  end
end
