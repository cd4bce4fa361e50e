-- Needs: base

-- The archive: older moves of epochs, which all have heard of. It judges the claims of instances
-- that return (P45, archive). It is a list of segments, oldest first. In a segment are moves that
-- follow each other, and are forgotten together. A segment has a place. A place has ARCHIVE_HASHES
-- hashes {key = epoch}, and the SHA-1 of a key says in which of them the key is. So each of these
-- is short, and Redis keeps it as a list, in a quarter of the memory that a sorted set takes. The
-- first two hashes of a segment always exist, because they have the field ':pad'. By them
-- `clear_archive` finds a segment that is in no list: a server may lose one of them, too.
--
-- The field :segments of n lists, for each segment, its place and the journal stamps of its first
-- and of its last move.

-- Opens the archive that has this list of segments. Its functions are made here, so that a step
-- that does not need it does not pay for them.
--   segments            of each its place, first and last
--   nth_of(key)         in which of the hashes of a segment a key is
--   hash_at(place, nth) the name of that hash, of the segment at this place
--   hashes(segments)    the names of all hashes of these segments
--   list()              the list, as it is to be written
local function open_archive(list)
  local segments = {}
  for place, first, last in string.gmatch(list, '(%d+),(%d+),(%d+)') do
    segments[#segments + 1] = {place = place + 0, first = first + 0, last = last + 0}
  end

  local function hash_at(place, nth)
    return front .. 's:' .. place * ARCHIVE_HASHES + nth
  end

  local function nth_of(key)
    return tonumber(string.sub(redis.sha1hex(key), 1, 2), 16) % ARCHIVE_HASHES
  end

  local function hashes(some)
    local names = {}
    for _, segment in ipairs(some) do
      for nth = 0, ARCHIVE_HASHES - 1 do
        names[#names + 1] = hash_at(segment.place, nth)
      end
    end
    return names
  end

  local function list_all()
    local words = {}
    for index, segment in ipairs(segments) do
      words[index] = segment.place .. ',' .. text(segment.first) .. ',' .. text(segment.last)
    end
    return table.concat(words, ';')
  end

  return {segments = segments, hash_at = hash_at, nth_of = nth_of, hashes = hashes,
    list = list_all}
end

-- Removes an archive of a namespace that has lost its list of segments.
local function clear_archive()
  local archive, places, firsts = open_archive(''), {}, {}
  for place = 0, MAX_SEGMENTS - 1 do
    places[place + 1] = {place = place}
    firsts[#firsts + 1], firsts[#firsts + 2] = archive.hash_at(place, 0), archive.hash_at(place, 1)
  end
  if call('EXISTS', unpack(firsts)) > 0 then
    call('UNLINK', unpack(archive.hashes(places)))
  end
end
