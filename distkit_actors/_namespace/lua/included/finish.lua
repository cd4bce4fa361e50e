-- Needs: base, space, sums, registry, step, forgetting, entries

-- How a step ends, which apply.lua and resume.lua have in common.

-- Writes what the entries did to the caller's slices and to epochs.
local function write_all(at)
  local removed = {}
  for _, key in ipairs(written) do
    if own[key] then
      write_field(key, own[key])
    else
      removed[#removed + 1] = key
    end
  end
  spread('HSET', I, fields)
  spread('HDEL', I, removed)
  if #moved_keys > 0 then
    local moves, stamp = {}, text(at)
    for index, key in ipairs(moved_keys) do
      moves[2 * index - 1] = stamp
      moves[2 * index] = key
    end
    spread('ZADD', M, moves)
    spread('HDEL', L, moved_keys)
  end
end

local function with_journal(reply, moves, latest)
  reply[#reply + 1] = text(space.clear)
  reply[#reply + 1] = text(space.floor)
  reply[#reply + 1] = text(latest)
  for index = 1, #moves, 2 do
    reply[#reply + 1] = moves[index]
    reply[#reply + 1] = text(moves[index + 1])
  end
  return reply
end

-- Ends a step: writes down what it did, and returns its reply. `step` says
--   at, refreshed     its stamp; whether a sign of life was written down
--   answer, leaves    what became of it; whether the instance leaves: then only the stamp is kept
--   moves, last       as catch_up() gave them
--   backlog, stuck    as reap() gave them, or no backlog
--   resumes           it is a piece of a resume, which is told up to which stamp moves are archived
local function finish(step)
  write_field(':head', head_of(record.known, incarnation, ARGV[4]))
  write_field(':reply', step.leaves and text(step.at) .. '|0|' or step.answer)
  write_all(step.at)
  if step.leaves then
    mark_dead(instance, LEFT)
  end
  local moved_now = space.latest ~= latest_before and #keys or 0
  if space.latest > 0 and (step.refreshed or moved_now > 0) then
    forget_moves(now - periods.retention, math.max(FORGET_AT_LEAST, 2 * moved_now))
    put_away(periods.retention)
  end
  save_space()
  if step.leaves then
    retire_space(periods.retention)
  end
  announce()
  local backlog = step.last and 1 or step.backlog or 0
  local reply = with_journal({DONE, step.answer, text(backlog), tostring(step.stuck)}, step.moves,
    step.last or space.latest)
  if step.resumes and space.segments ~= '' then
    reply[#reply + 1] = string.match(space.segments, '%d+$')
  end
  return reply
end
