-- Gives an instance a page of the slices that it inherits and that count (P25, opening).
--
-- KEYS  see included/base.lua
-- ARGV  1 the time, or '' for the server's (µs); 2 instance, 3 incarnation
--       4 seq, under which the last page is recorded
--       5 cursor: '' for the first page, else what the page before said
-- Reply {loaded, cursor or '' at the end, key, value@stamp, …}; a slice may come twice
--       {resume, '', born}  {conflict, incarnation}    as in apply.lua
--@include numbers
--@include announce
--@include base
--@include archive
--@include space
--@include sums

take_space()
local held = call('HMGET', I, ':inc', ':state', ':head')
if held[1] and tonumber(ARGV[3]) < tonumber(held[1]) then
  return {CONFLICT, held[1]}
elseif held[1] ~= ARGV[3] or held[2] ~= LIVE or space.born == 0 then
  -- Also where an older incarnation has come back after a data loss (P26, fencing).
  local born = birth()
  save_space()
  return {RESUME, '', born}
end

local page = call('HSCAN', I, ARGV[5] == '' and '0' or ARGV[5], 'COUNT', MAX_ENTRIES)
local keys, slices = {}, {}
for index = 1, #page[2], 2 do
  local key = page[2][index]
  if string.sub(key, 1, 1) ~= ':' then
    keys[#keys + 1] = key
    slices[#slices + 1] = page[2][index + 1]
  end
end
local epochs = epochs_of(keys)
local last = page[1] == '0'
local reply = {LOADED, last and '' or page[1]}
for index, key in ipairs(keys) do
  local _, stamp = parse(slices[index])
  if stamp >= epochs[key] then
    reply[#reply + 1] = key
    reply[#reply + 1] = slices[index]
  end
end
local head, seq = string.match(held[3], '^(.* )(%S+)$')
if last and tonumber(ARGV[4]) > tonumber(seq) then
  call('HSET', I, ':head', head .. ARGV[4])
end
return reply
