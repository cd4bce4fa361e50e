-- The most frequent step, written out ahead of everything else: one entry that adds to a slice or
-- reads it. Two joined fields of each hash show that nothing stands in its way. It does what the
-- rest of apply.lua would do, without making the functions of that. Any other step is left to the
-- rest; then nothing has been done here.
--
-- It compares instants as strings, which costs a third of making numbers of them. All have
-- INSTANT_DIGITS digits. More may stand behind the digits: `at` is below '<instant> …' up to that
-- very instant, and above it from the next one on. The fields:
--   :head   known, incarnation and seq of the last step, as in ARGV 1 and 2
--   :until  its last sign of life is recent up to this instant of steady time, exclusive
--   :from   :clock: no step may be before it; then, if the server's clock has jumped back or
--           somebody watches, :shift and :watch
--   :to     up to which instant nobody can be dead, clear, floor, latest: a reply ends with this.
--           0 if an instant is too far away to be compared as a string
--
-- Makes `lone_reply`, nil if it was left; and `lone_change`, the key to be announced.
local lone_reply, lone_change
do
  local words = ARGV
  local kind, value = words[4], words[6]
  if (kind == ADD or kind == FOLDED or kind == GUARDED_ADD or kind == GUARDED_FOLDED)
    and not words[9] and words[7] ~= '' and #value <= FOLD_DIGITS then
    local call, ours, mine, key, head = redis.call, KEYS[1], KEYS[2], words[5], words[1]
    local own = call('HMGET', mine, ':head', ':until', key)
    if own[1] == head then
      local at, slice = words[8], own[3]
      if not at then
        local time = call('TIME')
        local micros = time[2]
        at = time[1] .. (#micros == 6 and micros or string.sub('00000', #micros) .. micros)
      end
      local sums = call('HMGET', ours, ':from', ':to', ':latest', key)
      local from, to, total = sums[1], sums[2], sums[4] or '0'
      if #at == INSTANT_DIGITS and from and from < at and at < to and (sums[3] or '0') < head
        and #total <= FOLD_DIGITS then
        local steady = at
        if #from > INSTANT_DIGITS then
          local shift, watch = string.match(from, ' (%d+) (%d+)')
          steady = string.format('%.0f', at + shift)
          lone_change = at < watch and key
        end
        if steady < own[2] then
          local after = words[7]
          local answer = at .. '|0|' .. total .. ',' .. (slice or '0') .. ' ' .. to
          if value == '0' then
            call('HSET', mine, ':head', words[2], ':reply', answer)
            lone_change = nil
          else
            if call('HINCRBY', ours, key, value) == 0 then
              call('HDEL', ours, key)
            end
            if not slice then
              call('HSET', mine, ':head', words[2], ':reply', answer, key, value .. '@' .. at)
              call('HSET', ours, ':clock', at, ':from', at .. string.sub(from, INSTANT_DIGITS + 1))
            elseif after == '0' then
              call('HSET', mine, ':head', words[2], ':reply', answer)
              call('HDEL', mine, key)
            else
              after = after .. string.sub(slice, -INSTANT_DIGITS - 1)
              call('HSET', mine, ':head', words[2], ':reply', answer, key, after)
            end
          end
          lone_reply = answer
        end
      end
    end
  end
end
