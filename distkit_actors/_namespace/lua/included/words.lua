-- From here on ARGV has the words of a batch one by one, in the places of step.lua: 1 the time,
-- 2 instance, 3 incarnation, 4 seq, 5 known, 6 threshold, 7 interval, 8 retention, 9 what kind of
-- batch it is, 10 budget, 11 before, 12 … the entries. They travel joined, as each costs much.
local function spell_out()
  local more, before = string.match(ARGV[1], '^(%a?).* (%S+)$')
  local known, incarnation, seq = string.match(ARGV[2], '^0*(%S+) (%S+) (%S+)$')
  local threshold, interval, retention, budget = string.match(ARGV[3],
    '^(%S+) (%S+) (%S+) (%S+)$')
  local timed = #ARGV % 4 == 0
  local spelt = {timed and ARGV[#ARGV] or '', string.sub(KEYS[2], #KEYS[1] + 2), incarnation, seq,
    known, threshold, interval, retention, more, budget, before}
  for index = 4, #ARGV - 1, 4 do
    for word = index, index + 3 do
      spelt[#spelt + 1] = ARGV[word]
    end
  end
  return spelt
end
local ARGV = spell_out()
