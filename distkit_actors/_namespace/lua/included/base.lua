-- Names, time and numbers: what every script begins with. The files that are included come in one
-- order, which stands in distkit_actors/_stores/_redis/_scripts.py; each says in its first lines
-- which earlier ones it needs.
--
-- Names in capitals of more than one letter are constants. Those that Python knows, too, come from
-- there: the loader writes their values in their places
-- (distkit_actors/_stores/_redis/_lua_constants.py).
--
-- KEYS, the same seven everywhere. All share one hash tag, so they live in one slot. In a cluster
-- all are declared. Elsewhere nobody reads what is declared, and each name costs as much as two
-- fields of a hash. So there only the first two are declared, and the others are made of the first.
--   1 n  hash  the namespace: its own fields (included/space.lua) and {key = sum}
--   2 i: hash  the instance: its own fields (below) and {key = value@stamp}, its slices
--   3 m  zset  {key = stamp at which the store learned of the key's last epoch move}
--   4 l  hash  {key = epoch, where it is older than that stamp}
--   5 a  zset  {living instance = steady time before which it is not dead (P40, observed time)}
--   6 h  zset  {instance = stamp up to which it knows the moves}, the living and the reap queue
--   7 d  zset  {instance = its place in the reap queue}: dead or left, and still with slices
--   s:<number>  hash  {key = epoch}, the archive (included/archive.lua)
-- The last ones are not declared, as they are many, nor are the hashes of other instances: d has
-- the names of those in the reap queue.
--
-- No value of a counter ever becomes a Lua number, which is a double (P2, exact integers). Only
-- instants and stamps (microseconds, exact below 2^53), seqs and sizes do.
local N, I, front = KEYS[1], KEYS[2], string.sub(KEYS[1], 1, -2)
local M, L, A, H, D = front .. 'm', front .. 'l', front .. 'a', front .. 'h', front .. 'd'
local call = redis.call

-- Most words in one variadic call, and in one unpack (P5, bounded pieces). Even, as some come in
-- pairs.
local CHUNK = 500
-- Makes Redis keep a hash as a hash table from the start: a short one it keeps as a list,
-- which it scans from end to end for each field (P5b, hash tables).
local PAD = string.rep('.', 65)
-- The OWN_FIELDS of an instance: :inc :nonce :inherited :head :reply :state :thr :int :ret :hold
-- :beat :until :lost :graced :swept :pad. All are always there. Later versions may add :1 to :8;
-- any more are slices. No key begins with a COLON here: before one that does Python writes a byte
-- (write_key in _stores/_redis/_wire.py).

-- The instance that asks, and the store's time in microseconds.
local instance = ARGV[2]
local now
if ARGV[1] == '' then
  local time = call('TIME')
  now = tonumber(time[1]) * MICROSECONDS + tonumber(time[2])
else
  now = tonumber(ARGV[1])  -- in tests only
end

-- A number in full: tostring would give an instant as 1.79e+15.
local function text(number)
  return string.format('%.0f', number)
end

-- An instant with INSTANT_DIGITS digits. So included/lone.lua can compare instants as strings, and
-- cut the stamp off a slice by its length.
local function digits(instant)
  return string.format('%0' .. INSTANT_DIGITS .. '.0f', instant)
end

-- The :head of an instance. `seq` is a string.
local function head_of(known, inc, seq)
  return digits(known) .. ' ' .. text(inc) .. ' ' .. seq
end

-- The :until of a living instance that was heard at the instant `beat`.
local function recent_until(beat, threshold)
  return digits(beat + math.floor(threshold / RECENT_PART))
end

-- The hash of an instance.
local function hash_of(name)
  return front .. INSTANCE_SUFFIX .. name
end

-- Calls a command with any number of words and returns its replies in one list.
local function spread(command, name, words)
  local count = #words
  if count == 0 then
    return {}
  elseif count <= CHUNK then
    return call(command, name, unpack(words))
  end
  local replies = {}
  for first = 1, count, CHUNK do
    local some = call(command, name, unpack(words, first, math.min(first + CHUNK - 1, count)))
    if type(some) == 'table' then
      for index = 1, #some do
        replies[#replies + 1] = some[index]
      end
    end
  end
  return replies
end
