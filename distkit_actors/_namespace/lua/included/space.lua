-- Needs: base, archive

-- The namespace's own fields, in n beside the sums:
--   :born   when it was made: a store that lost it makes another (P17, resume)
--   :clock  last stamp used, or a later sign of life of anybody (P6, one clock)
--   :clear  stamp of the last clear: a lower bound for every key's epoch (P7, key epochs)
--   :floor  largest journal stamp that was forgotten (P11, forgetting moves)
--   :latest largest journal stamp ever given out
--   :due    no instance has a deadline before this instant of steady time (P23, reaper)
--   :watch  until when changes are announced (P37, notifications)
--   :parts  over how many parts the namespace is spread, of which this is one (P44, parts); 0 is 1
--   :segments the segments of the archive, see included/archive.lua (P45, archive)
--   :shift, :last, :paces   see included/observed.lua (P40, observed time)
--   :from, :to              made of the others, see included/lone.lua
-- They are read once into `space` (a missing one is 0), changed there, and saved at the end.
local SPACE = {
  'born', 'clock', 'clear', 'floor', 'latest', 'due', 'watch', 'parts', 'shift', 'last', 'paces',
  'segments',
}
local IS_TEXT = {paces = true, segments = true}  -- all others are numbers
local SPACE_FIELDS = {
  ':born', ':clock', ':clear', ':floor', ':latest', ':due', ':watch', ':parts', ':shift',
  ':last', ':paces', ':segments', ':from', ':to',
}
local space, saved = {}, {}
-- For how long (ms) a namespace stays that nobody has joined yet. Who does makes it stay.
local HOUR = 3600000
local is_newborn = false

-- `values` of the fields, if they have been read already.
local function take_space(values)
  values = values or call('HMGET', N, unpack(SPACE_FIELDS))
  for index, field in ipairs(SPACE) do
    local value = values[index]
    if IS_TEXT[field] then
      value = value or ''
    else
      value = tonumber(value or 0)
    end
    space[field], saved[field] = value, value
  end
  saved.from, saved.to = values[#SPACE + 1], values[#SPACE + 2]
end

-- What :from and :to are to be.
local function bounds()
  local from, to = space.clock, math.max(0, math.min(space.due - space.shift - 1, FAR))
  if math.max(from, space.last, space.watch) >= FAR then
    to = 0
  end
  local more = ''
  if space.shift > 0 or space.watch > from then
    more = ' ' .. text(space.shift) .. ' ' .. digits(space.watch)
  end
  return digits(from) .. more,
    table.concat({digits(to), text(space.clear), text(space.floor), text(space.latest)}, ' ')
end

-- Writes the fields that changed, or all.
local function save_space(all)
  local words = {}
  if all or saved.born ~= space.born then
    words[1], words[2] = ':pad', PAD
  end
  for index, field in ipairs(SPACE) do
    if all and space[field] ~= '' or saved[field] ~= space[field] then
      words[#words + 1] = SPACE_FIELDS[index]
      words[#words + 1] = IS_TEXT[field] and space[field] or text(space[field])
      saved[field] = space[field]
    end
  end
  if space.born > 0 then  -- else nobody can use them
    local from, to = bounds()
    if all or saved.from ~= from then
      words[#words + 1] = ':from'
      words[#words + 1] = from
    end
    if all or saved.to ~= to then
      words[#words + 1] = ':to'
      words[#words + 1] = to
    end
    saved.from, saved.to = from, to
  end
  if #words > 0 then
    call('HSET', N, unpack(words))
  end
  if is_newborn then
    call('PEXPIRE', N, HOUR)
  end
end

-- The first write of a step must be one that Redis refuses when it is out of memory. Before it
-- nothing has happened, and after it Redis refuses nothing more. So this goes ahead of a write that
-- Redis never refuses.
local has_written = false
local function guard()
  if not has_written then
    has_written = true
    call('HSET', N, ':pad', PAD)
  end
end

-- Removes what is left of a namespace without its own fields: a server may lose a single key.
-- Slices and deadlines mean nothing without them. Those who live bring theirs, as after any loss.
-- O(instances), once.
local was_listed = false
local function clear_remains()
  guard()
  call('PEXPIRE', N, HOUR)  -- in case the user lacks a right for the rest
  for _, list in ipairs({H, A, D}) do  -- some of these may be lost, too
    for _, name in ipairs(call('ZRANGE', list, 0, -1)) do
      was_listed = was_listed or name == instance
      call('UNLINK', hash_of(name))
    end
  end
  call('UNLINK', M, L, A, H, D)
  clear_archive()
end

-- When this namespace was made, which is now if it holds nothing yet.
local function birth()
  if space.born == 0 then
    clear_remains()
    space.clock = math.max(space.clock + 1, now)
    space.born, is_newborn = space.clock, true
  end
  return text(space.born)
end
