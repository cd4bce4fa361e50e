"""Defects put into the Lua by hand, some for each rule that it carries."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One change of one file."""

    file: str
    old: str
    """Stands there once."""
    new: str


MUTANTS: dict[str, list[Mutant]] = {
    "conditions": [
        Mutant("numbers", "sign == EQUAL or sign == AT_MOST or", "sign == EQUAL or"),
        Mutant("numbers", "return sign == LESS or", "return sign == GREATER or"),
        Mutant("numbers", "#current < #number or", "#current > #number or"),
        Mutant("numbers", "and current < number)", "and current <= number and false)"),
        Mutant("numbers", "#current == #number and current > number", "current > number"),
        Mutant("entries", "== OF_OWN and slice or total", "== OF_OWN and total or slice"),
        Mutant("fast_path", "== OF_OWN and slice or total,", "== OF_OWN and total or slice,"),
        Mutant("fast_path", "result = result .. UNMET", "result = result"),
        Mutant("fast_path", "if rest ~= '' and not holds(", "if rest ~= '' and holds("),
    ],
    "overflow": [
        Mutant("numbers", "    return false\n", "    return 0\n"),
        Mutant("sums", "      put_sum(key, before)\n", ""),
        Mutant("sums", "or add(key, new, first, second)", ""),
        Mutant("sums", "or add(key, new, first)", ""),
        Mutant("sums", "return INT64_MAX, '1'", "return INT64_MAX"),
        Mutant("sums", "  if total == 0 then\n    call('HDEL', N, key)\n  end\n", ""),
        Mutant("fast_path", "after ~= '' and increase", "increase"),
        Mutant("entries", "if after == '' or value", "if value"),
        Mutant("entries", "> FOLD_DIGITS then", ">= FOLD_DIGITS then"),
        Mutant("fast_path", "> FOLD_DIGITS then", "> FOLD_DIGITS + 1 then"),
        Mutant("lone", "and #total <= FOLD_DIGITS then", "then"),
        Mutant("lone", "and #value <= FOLD_DIGITS then", "then"),
        Mutant("lone", "  call('HDEL', ours, key)\n", "  local _ = nil\n"),
        Mutant("lone", "elseif after == '0' then", "elseif false then"),
    ],
    "all or none": [
        Mutant("entries", "    undo(totals, slices, clock)\n", ""),
        Mutant("entries", "  space.clock = clock\n", ""),
        Mutant("entries", "  own, written = slices, {}\n", ""),
    ],
    "epochs": [
        Mutant("sums", "if stamp + 0 < epochs[key] or", "if stamp + 0 <= epochs[key] or"),
        Mutant("sums", "late[index] or moved[index] or 0", "moved[index] or 0"),
        Mutant("entries", "    epochs[key] = at\n", ""),
        Mutant(
            "entries",
            "space.latest, space.clock = at, math.max(space.clock, at)\n  elseif",
            "space.latest = at\n  elseif",
        ),
        Mutant("entries", "    call('UNLINK', M, L)\n", ""),
        Mutant("entries", "    sweep_own(at)\n", ""),
        Mutant("entries", "    moved_keys = {}\n", ""),
        Mutant("finish", "    spread('HDEL', L, moved_keys)\n", ""),
        Mutant("resume", "if stamp < move.epoch then", "if stamp <= move.epoch then"),
        Mutant(
            "resume",
            "if epoch > epochs[key] and epoch > space.floor then",
            "if epoch > epochs[key] then",
        ),
        Mutant("resume", "  if cleared > space.clear then", "  if cleared >= space.clear then"),
        Mutant("resume", "math.max(space.clock, at, move.epoch)", "math.max(space.clock, at)"),
        Mutant("resume", "      sweep_own(cleared)\n", ""),
        Mutant("query", "    if stamp >= epoch then", "    if stamp > epoch then"),
        Mutant("query", "      if stamp >= epochs[key] then", "      if stamp > epochs[key] then"),
        Mutant("load", "  if stamp >= epochs[key] then", "  if stamp > epochs[key] then"),
    ],
    "learning moves": [
        Mutant("journal", "    while found[2 * count] == cut do", "    while false do"),
        Mutant("journal", "count > MAX_JOURNAL then", "count >= MAX_JOURNAL then"),
        Mutant(
            "journal",
            "      if stamp < moves[2 * index] then",
            "      if stamp <= moves[2 * index] then",
        ),
        Mutant(
            "journal",
            "    if stamp > last and not seen[key] then",
            "    if stamp >= last and not seen[key] then",
        ),
        Mutant("journal", "        if made < epoch then", "        if made <= epoch then"),
        Mutant(
            "journal", "known < space.clear and record.swept < space.clear", "known < space.clear"
        ),
        Mutant("journal", "  if known > record.known then", "  if known ~= record.known then"),
        Mutant("finish", "step.last or space.latest", "space.latest"),
        Mutant("finish", "step.last and 1 or step.backlog or 0", "step.backlog or 0"),
        Mutant(
            "fast_path", "    or string.match(ARGV[1], '^%d+') + 0 < latest + 0 then", "    then"
        ),
        Mutant("lone", "and (sums[3] or '0') < head", ""),
        Mutant("finish", "head_of(record.known, incarnation", "head_of(known, incarnation"),
    ],
    "forgetting moves": [
        Mutant("finish", "    if stamp > known_by_all then", "    if stamp >= known_by_all then"),
        Mutant("finish", "    space.floor = stamp\n", ""),
        Mutant("finish", "2 * moved_now)", "moved_now)"),
        Mutant("finish", "if step.refreshed or moved_now > 0 then", "if step.refreshed then"),
        Mutant("finish", "    spread('HDEL', L, gone)\n", ""),
        Mutant("finish", "now - periods.retention", "now"),
        Mutant("entries", "math.max(known, stamp) < space.floor", "stamp < space.floor"),
    ],
    "one clock": [
        Mutant(
            "fast_path",
            "string.format('%.0f', (sums[2] or 0) + 1)",
            "string.format('%.0f', sums[2] or 0)",
        ),
        Mutant("fast_path", "  if made then", "  if false then"),
        Mutant("fast_path", "string.sub(sums[1], INSTANT_DIGITS + 1)", "''"),
        Mutant("lone", "call('HSET', ours, ':clock', at, ':from',", "call('HSET', ours, ':from',"),
        Mutant(
            "lone",
            "':clock', at, ':from', at .. string.sub(from, INSTANT_DIGITS + 1))",
            "':clock', at)",
        ),
        Mutant("lone", "at .. string.sub(from, INSTANT_DIGITS + 1))", "at)"),
        Mutant("lone", "and from < at", ""),
        Mutant("apply", "math.max(space.clock + 1, now)", "math.max(space.clock, now)"),
        Mutant("open", "space.clock = at\n", ""),
        Mutant("step", "(space.clock, now, incarnation, known)", "(space.clock, now, known)"),
        Mutant("step", "(space.clock, now, incarnation, known)", "(space.clock, now, incarnation)"),
        Mutant("entries", "    space.clock = math.max(space.clock, stamp)\n", ""),
        Mutant("entries", "tonumber(kept) > stamp and digits(stamp) or kept", "kept"),
    ],
    "remembered answers, gaps, unique numbers": [
        Mutant("step", "  elseif seq == record.seq then", "  elseif seq < record.seq then"),
        Mutant("step", "or record.seq ~= FOLLOWS then", "or record.seq > FOLLOWS then"),
        Mutant("step", "record.state ~= LIVE or record.seq", "record.seq"),
        Mutant("fast_path", "if own[1] ~= ARGV[1] then", "if not own[1] then"),
        Mutant("fast_path", "  words[4] = answer\n", ""),
        Mutant("lone", "    if own[1] == head then", "    if own[1] then"),
        Mutant(
            "lone", "key, after)", "key, after)\n              call('HSET', mine, ':reply', '')"
        ),
        Mutant(
            "finish", "  write_field(':head', head_of(record.known, incarnation, ARGV[4]))\n", ""
        ),
        Mutant("finish", "step.leaves and text(step.at) .. '|0|' or step.answer", "step.answer"),
        Mutant("resume", "tonumber(ARGV[4]) - 1", "tonumber(ARGV[4])"),
    ],
    "fence, resume, opening": [
        Mutant("step", "incarnation > record.inc then", "incarnation >= record.inc then"),
        Mutant("step", "if not (restarts and answers_us()) then", "if not restarts then"),
        Mutant("step", "    if not answers_us() then", "    if false then"),
        Mutant("load", "tonumber(ARGV[3]) < tonumber(held[1])", "ARGV[3] ~= held[1]"),
        Mutant("load", "or held[2] ~= LIVE then", "then"),
        Mutant("open", "if old[2] == ARGV[3] then", "if false then"),
        Mutant("open", "elseif holder ~= ARGV[4] or", "elseif"),
        Mutant("open", "ARGV[5] ~= text(space.born)", "false"),
        Mutant("open", " or space.born == 0 then", " then"),
        Mutant(
            "open",
            "ARGV[10] == '1' and old[1] and is_alive(instance)",
            "ARGV[10] == '1' and old[1]",
        ),
        Mutant("open", "ARGV[6] == '1' and lives and '1'", "ARGV[6] == '1' and '1'"),
        Mutant("open", "if inherited == '0' then\n  purge", "if inherited ~= '0' then\n  purge"),
        Mutant(
            "resume",
            "    local more, orphaned = purge(at, periods, record.known)\n",
            "    local more, orphaned = false, false\n",
        ),
        Mutant("registry", "    spread('HDEL', I, left)\n", ""),
        Mutant("registry", "    enqueue(orphan)\n", ""),
    ],
    "liveness and observed time": [
        Mutant("observed", "if silent > longest", "if silent >= longest"),
        Mutant("fast_path", "now + shift >= own[2] + 0", "now >= own[2] + 0"),
        Mutant("fast_path", "now + shift >= own[2] + 0", "now + shift > own[2] + 0"),
        Mutant("fast_path", "now + shift < (sums[9] or 0) + 0 or", ""),
        Mutant("fast_path", "now + shift >= (sums[6] or 0) + 0", "now >= (sums[6] or 0) + 0"),
        Mutant("lone", "if steady < own[2] then", "if at < own[2] then"),
        Mutant("lone", "if steady < own[2] then", "if steady <= own[2] then"),
        Mutant("lone", "and at < to", ""),
        Mutant("space", "space.due - space.shift - 1", "space.due - space.shift"),
        Mutant("space", "space.due - space.shift - 1", "space.due - 1"),
        Mutant("registry", "':state', state, ':until', '0')", "':state', state)"),
        Mutant("registry", "state == LIVE and recent_until", "recent_until"),
        Mutant("resume", "':state', DEAD, ':until', '0')", "':state', DEAD)"),
        Mutant("step", "  write_field(':until', recent_until(space.last, record.threshold))\n", ""),
        Mutant("step", "':until', recent_until(space.last, periods.threshold),", ""),
        Mutant("step", "steady() >= space.last and steady()", "steady()"),
        Mutant("step", "write_field(':beat', text(space.last))", "write_field(':beat', text(now))"),
        Mutant("step", "    write_field(':lost', text(lost))\n", ""),
        Mutant("step", "    write_field(':graced', '0')\n", ""),
        Mutant("step", "record.state == LIVE and refresh() then", "refresh() then"),
        Mutant("observed", "space.shift - gap", "space.shift"),
        Mutant("observed", "  space.last = space.last + gap\n", ""),
        Mutant("observed", "math.floor((period + unnoticed) / 2)", "unnoticed"),
        Mutant(
            "observed",
            "      if not watched then\n        blackouts",
            "      if true then\n        blackouts",
        ),
        Mutant("observed", "gap - math.min(gap, blackouts.interval)", "gap"),
        Mutant("observed", "if late <= 0 then", "if late <= 1000000000 then"),
        Mutant("observed", "if gone.living == 0 then", "if false then"),
        Mutant("observed", "(at - math.max(beat, graced))", "(at - beat)"),
        Mutant("observed", "+ (blackouts.lost - lost)", ""),
        Mutant("observed", "graced == 0 and blackouts.ended > beat", "blackouts.ended > beat"),
        Mutant("observed", "left <= 0 and graced", "left < 0 and graced"),
        Mutant("observed", "    if heard[5] == '0' then\n      return true\n    end\n", ""),
        Mutant("observed", "at = at - gap + math.min(gap, interval)", "at = at - gap"),
        Mutant("registry", "part(lived_by[1] + 0, lived_by[2] + 0)", ""),
        Mutant("registry", "math.min(space.due, space.last + threshold)", "space.due"),
    ],
    "reaper": [
        Mutant("registry", "if gone > 0 and not has_slices", "if gone > 0 or not has_slices"),
        Mutant("sums", "(spare and 1 or 0)", "(spare and 0 or 1)"),
        Mutant("reaper", "steady() - late", "steady()"),
        Mutant("reaper", "or at < space.due then", "then"),
        Mutant("reaper", "elseif deaths < DEATHS_PER_STEP then", "else"),
        Mutant("reaper", "        call('ZADD', A, text(at + left), name)\n", ""),
        Mutant("reaper", "    oldest_first(touched_first(found))\n", "    oldest_first(found)\n"),
        Mutant("reaper", "return released and first_in_queue() or found", "return found"),
        Mutant("reaper", "        enqueue(name)  -- only", "        -- only"),
        Mutant(
            "reaper",
            "take_away(hash, some, pieces, budget - gone,",
            "take_away(hash, some, pieces, budget,",
        ),
        Mutant("reaper", "if call('ZCARD', D) > 0 then", "if call('ZCARD', D) > 1 then"),
        Mutant("reaper", "space.due <= at and done + gone > 0", "space.due <= at"),
        Mutant("reaper", "#left / 2", "#left"),
        Mutant(
            "sums",
            "        count = count + 1\n        gone[count] = key\n",
            "        gone[count + 1] = key\n",
        ),
        Mutant("registry", "tonumber(last or 0) + 1)", "tonumber(last or 0))"),
        Mutant("entries", "    if value == instance then\n      return REFUSED\n    end\n", ""),
        Mutant(
            "registry",
            "  if call('ZSCORE', A, name) then\n    mark_dead(name, DEAD)\n  end\n",
            "",
        ),
    ],
    "holds": [
        Mutant("fast_path", "'^.' .. GUARDED .. '?(.*)$'", "'^.(.*)$'"),
        Mutant("entries", "    if moved[key] then\n      return MOVED\n    end\n", ""),
        Mutant(
            "journal",
            "tonumber(stamp or 0)) > known or nil",
            "tonumber(stamp or 0)) >= known or nil",
        ),
        Mutant("journal", "if known < space.latest then", "if known < space.clear then"),
    ],
    "queries": [
        Mutant("query", "cursor == '0' and '' or cursor", "''"),
        Mutant("query", "if heard[6] and heard[6] ~= '0' then", "if heard[6] then"),
        Mutant("query", "heard[7] == LIVE and counts_as_alive", "counts_as_alive"),
        Mutant("query", "heard[6] == LIVE and counts_as_alive", "counts_as_alive"),
        Mutant("query", "  if first == 0 then", "  if first then"),
        Mutant("query", "if heard[1] and not counts_as_alive", "if heard[1] and counts_as_alive"),
        Mutant("query", "math.max(0, first - queued)", "0"),
        Mutant("query", "#overdue < room and '0'", "'0'"),
        Mutant("query", "judge_silence(heard, judged_at) > 0", "judge_silence(heard, now) > 0"),
        Mutant("query", "math.max(0, steady() - heard[3])", "steady() - heard[3]"),
        Mutant("peek", "holder and is_alive(instance)", "holder"),
    ],
    "looking": [
        Mutant("observed", "observed == JUST_COME and at >= space.last", "observed == JUST_COME"),
        Mutant("observed", "observed == '' or observed == JUST_COME and", "observed == '' and"),
        Mutant("observed", "math.max(space.last, tonumber(observed))", "tonumber(observed)"),
        Mutant("observed", "at < space.last and seen or math.min(at, seen)", "math.min(at, seen)"),
        Mutant("observed", "at < space.last and seen or math.min(at, seen)", "seen"),
        Mutant("forget", "announce()\n", ""),
        Mutant("forget", "if retention > 0 then", "if false then"),
        Mutant("forget", "save_space()\n", ""),
        Mutant("forget", "if space.born > 0 then", "if true then"),
        Mutant("watch", "if space.born == 0 then", "if true then"),
    ],
    "retention": [
        Mutant("registry", "  call('PERSIST', I)\n", ""),
        Mutant("registry", "    call('PERSIST', name)\n", ""),
        Mutant(
            "registry", "call('ZCARD', A) == 0 and call('ZCARD', D) == 0", "call('ZCARD', A) == 0"
        ),
        Mutant(
            "registry", "call('ZCARD', A) == 0 and call('ZCARD', D) == 0", "call('ZCARD', D) == 0"
        ),
        Mutant("registry", "  call('ZREM', H, name)\n", ""),
        Mutant("registry", "math.floor(retention / 1000))))\n", "1)))\n"),
    ],
    "the number of parts": [
        Mutant("registry", "  if partitions == before then", "  if true then"),
        Mutant("registry", "    if is_alive(names[index]) then", "    if true then"),
        Mutant("registry", "    if is_alive(names[index]) then", "    if false then"),
        Mutant("registry", "for index = #names, 1, -1 do", "for index = 1, 1 do"),
        Mutant(
            "registry", "  for _, name in ipairs(names) do\n    mark_dead(name, DEAD)\n", "  do\n"
        ),
        Mutant("registry", "  space.parts = partitions\n", ""),
        Mutant("open", "old[3] == LIVE and not switched", "old[3] == LIVE"),
        Mutant("resume", "    record.state = DEAD\n", ""),
        Mutant("resume", "if restarts then\n  local agreed", "if false then\n  local agreed"),
        Mutant("query", "call('ZCARD', H) == 0 and 0 or", ""),
    ],
    "notifications": [
        Mutant("sums", "cleared_all = {}, now < space", "cleared_all = {}, now <= space"),
        Mutant("sums", "#changed <= MAX_CHANGED then", "#changed < MAX_CHANGED then"),
        Mutant("sums", "sum, cleared_all = {}, now < space.watch", "sum = {}"),
        Mutant("announce", "#keys > MAX_CHANGED", "#keys >= MAX_CHANGED"),
        Mutant("fast_path", "      if not changed[key] then", "      if true then"),
        Mutant("fast_path", "if watch and now < watch + 0 then", "if watch then"),
        Mutant("lone", "lone_change = at < watch and key", "lone_change = key"),
        Mutant("lone", "            lone_change = nil\n", ""),
        Mutant("apply", "  publish({lone_change})\n", ""),
        Mutant("space", "if space.shift > 0 or space.watch > from then", "if space.shift > 0 then"),
        Mutant(
            "space",
            "if space.shift > 0 or space.watch > from then",
            "if space.shift > 0 or space.watch > from + 1000 then",
        ),
        Mutant(
            "watch", "math.max(space.watch, now + tonumber(ARGV[3]))", "now + tonumber(ARGV[3])"
        ),
    ],
    "out of memory": [
        Mutant("space", "    call('HSET', N, ':pad', PAD)\n", ""),
        Mutant("sums", "    guard()\n    call('HDEL', N, key)\n", "    call('HDEL', N, key)\n"),
        Mutant("registry", "  guard()\n  unlist(name, hash)\n", "  unlist(name, hash)\n"),
        Mutant("sums", "  guard()\n  call('UNLINK', N)\n", "  call('UNLINK', N)\n"),
    ],
}
