-- Gives a page of what the namespace holds; changes nothing.
--
-- KEYS  see parts/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance
--       3 topic: instances, slices or keys; 4 key (slices only)
--       5 cursor: '' for the first page, else what the page before said
-- Reply {surveyed, cursor or '' at the end, name, number, flag, …}; a name may come twice
--   instances: id, microseconds since its last sign of life, '1' if it counts as alive, else '0',
--              and behind that its incarnation, a blank, and what it says of itself, with padding
--   slices:    id, value, '1'
--   keys:      key, cumulative, '1'
--@include numbers
--@include announce
--@include base
--@include space
--@include observed
--@include sums

local PAGE = 500
take_space()
local cursor = ARGV[5] == '' and '0' or ARGV[5]
local rows = {}

local function row(name, number, flag)
  rows[#rows + 1] = name
  rows[#rows + 1] = number
  rows[#rows + 1] = flag
end

local function look_at_instance(name)
  local heard = call('HMGET', hash_of(name), ':thr', ':int', ':beat', ':lost', ':graced', ':inc',
    ':state', ':pad')
  if heard[6] and heard[6] ~= '0' then  -- else it is an orphan (P18, empty ground)
    local alive = heard[7] == LIVE and is_seen_alive(heard, ARGV[2])
    local age = text(math.max(0, steady() - heard[3]))
    row(name, age, (alive and '1' or '0') .. heard[6] .. ' ' .. (heard[8] or ''))
  end
end

local function look_at_slice(name, epoch)
  local piece = call('HGET', hash_of(name), ARGV[4])
  if piece then
    local value, stamp = parse(piece)
    if stamp >= epoch then
      row(name, value, '1')
    end
  end
end

local page
if ARGV[3] == QUERY_KEYS then
  page = call('HSCAN', N, cursor, 'COUNT', PAGE)
  for index = 1, #page[2], 2 do
    if string.sub(page[2][index], 1, 1) ~= ':' then
      row(page[2][index], page[2][index + 1], '1')
    end
  end
else
  page = call('ZSCAN', H, cursor, 'COUNT', PAGE)
  local epoch = ARGV[3] == QUERY_SLICES and epochs_of({ARGV[4]})[ARGV[4]]
  for index = 1, #page[2], 2 do
    if epoch then
      look_at_slice(page[2][index], epoch)
    else
      look_at_instance(page[2][index])
    end
  end
end
return {SURVEYED, page[1] == '0' and '' or page[1], unpack(rows)}
