-- The store of a cluster: each command of src/cluster/store.rs, as src/cluster/table.rs carries it out in memory.
-- KEYS[1] is the prefix of all keys, ARGV[1] the command. Times are milliseconds by the clock of this server.

local prefix, command = KEYS[1], ARGV[1]
local call = redis.call

local clock = call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
-- Its sequence is the same in each script otherwise.
math.randomseed(tonumber(clock[2]))

-- What a room that is placed on a node adds to its load until it tells the next one.
local PLACED_LOAD = 0.02
-- How many nodes are looked at to place a room.
local SAMPLE = 16
-- How long after the end of its lease a process counts as ended, and how many of its rooms are then forgotten at once.
local KEPT_MS = 60000
local FORGOTTEN_AT_ONCE = 100

local NODES, PLACES, ENDED = prefix .. 'nodes', prefix .. 'places', prefix .. 'ended'
local LISTING = prefix .. 'listing'
local SECRET, BEGUN, EPOCH = prefix .. 'secret', prefix .. 'begun', prefix .. 'epoch'
local function places_key(region) return PLACES .. ':' .. region end
local function node_key(node) return prefix .. 'node:' .. node end
local function room_key(room) return prefix .. 'room:' .. room end
local function rooms_key(member) return prefix .. 'rooms:' .. member end
local function listing_key(member) return LISTING .. ':' .. member end
local function snapshot_key(room) return prefix .. 'snapshot:' .. room end
local function session_key(id) return prefix .. 'session:' .. id end

-- A member is a node and its process: NODE#INCARNATION.
local function node_of(member) return string.match(member, '^(.*)#') end

local function text(number) return string.format('%.0f', number) end

-- The newest epoch, or the time if that is more.
local function last_epoch() return math.max(now, tonumber(call('GET', EPOCH)) or 0) end

local function is_current(member) return call('HGET', node_key(node_of(member)), 'member') == member end

-- Whether the process has a lease, and the URL of its node.
local function lease_of(member)
  local kept = call('HMGET', node_key(node_of(member)), 'member', 'until', 'url')
  return kept[1] == member and tonumber(kept[2]) > now, kept[3]
end

-- The owner of a room and its epoch; nothing if that process has ended. Then its rooms are yet to be forgotten.
local function owner_of(room)
  local kept = call('HMGET', room_key(room), 'owner', 'epoch')
  if kept[1] and is_current(kept[1]) then
    return kept[1], tonumber(kept[2])
  end
end

local function give(room, member, epoch)
  local former = call('HGET', room_key(room), 'owner')
  if former and former ~= member then
    call('SREM', rooms_key(former), room)
  end
  call('HSET', room_key(room), 'owner', member, 'epoch', text(epoch))
  call('SADD', rooms_key(member), room)
end

local function remove_node(node, member, region)
  call('DEL', node_key(node))
  call('SREM', NODES, node)
  call('SREM', PLACES, node)
  call('SREM', LISTING, node)
  if member then
    call('DEL', listing_key(member))
    call('SREM', places_key(region), node)
    call('SADD', ENDED, member)
  end
end

-- A script must not take long, so the rooms of processes that have ended are forgotten by and by.
local function forget_some()
  local node = call('SRANDMEMBER', NODES)
  if node then
    local kept = call('HMGET', node_key(node), 'member', 'until', 'region', 'lapsed')
    if not kept[1] or math.max(kept[2], kept[4] or 0) + KEPT_MS < now then
      remove_node(node, kept[1], kept[3])
    end
  end
  local member = call('SRANDMEMBER', ENDED)
  if member then
    local rooms = call('SPOP', rooms_key(member), FORGOTTEN_AT_ONCE)
    for _, room in ipairs(rooms) do
      if call('HGET', room_key(room), 'owner') == member then
        call('DEL', room_key(room))
      end
    end
    if #rooms < FORGOTTEN_AT_ONCE then
      call('SREM', ENDED, member)
    end
  end
end

local commands = {}

function commands.renew(member, ttl, takes_over, secret, url, region, load, takes_rooms, draining, rooms, players)
  local node = node_of(member)
  call('SET', SECRET, secret, 'NX')
  call('SET', BEGUN, text(now), 'NX')
  secret = call('GET', SECRET)
  local kept = call('HMGET', node_key(node), 'member', 'since', 'until', 'region')
  local since = now
  if kept[1] then
    local is_same, is_over = kept[1] == member, tonumber(kept[3]) <= now
    if not is_same and not is_over and takes_over == '0' then
      return { secret, text(last_epoch()), '' }
    end
    -- Two leases never begin at the same time, though the clock may be set back.
    since = (is_same and not is_over) and kept[2] or math.max(now, kept[2] + 1)
    if not is_same then
      call('SADD', ENDED, kept[1])
      call('DEL', listing_key(kept[1]))
    end
    if kept[4] ~= region then
      call('SREM', places_key(kept[4]), node)
    end
  end
  call('HSET', node_key(node), 'member', member, 'since', text(since), 'until', text(now + ttl), 'url', url,
    'region', region, 'load', load, 'takes_rooms', takes_rooms, 'draining', draining, 'rooms', rooms,
    'players', players)
  call('PEXPIRE', listing_key(member), ttl)
  call('SADD', NODES, node)
  local change = takes_rooms == '1' and 'SADD' or 'SREM'
  call(change, PLACES, node)
  call(change, places_key(region), node)
  call('SREM', ENDED, member)
  forget_some()
  return { secret, text(last_epoch()), text(since) }
end

-- The less busy of two random nodes other than that of `member`, of the region if it has any.
local function choose(member, region)
  for _, key in ipairs({ places_key(region), PLACES }) do
    local others = {}
    for _, node in ipairs(call('SRANDMEMBER', key, SAMPLE)) do
      local kept = call('HMGET', node_key(node), 'member', 'until', 'load')
      if node ~= node_of(member) and kept[1] and tonumber(kept[2]) > now then
        others[#others + 1] = { member = kept[1], load = tonumber(kept[3]) }
      end
    end
    if #others > 0 then
      local one = table.remove(others, math.random(#others))
      local other = #others > 0 and others[math.random(#others)]
      return (other and other.load < one.load) and other.member or one.member
    end
  end
end

-- Where a room is, and whether something is saved of it.
local function at(room, owner, url, epoch)
  return { 'at', owner, url, text(epoch), text(call('EXISTS', snapshot_key(room))) }
end

-- Gives a room, whose last epoch may be known, to a node.
local function place(room, member, epoch)
  -- Many rooms may be given in a millisecond, and the clock may be set back.
  epoch = math.max(now, (tonumber(call('GET', EPOCH)) or 0) + 1, (epoch or 0) + 1)
  call('SET', EPOCH, text(epoch))
  give(room, member, epoch)
  local node = node_key(node_of(member))
  local of = call('HMGET', node, 'load', 'url')
  call('HSET', node, 'load', string.format('%.17g', of[1] + PLACED_LOAD))
  return at(room, member, of[2], epoch)
end

local function keep_snapshot(room, bytes, ttl)
  call('HSET', snapshot_key(room), 'at', text(now), 'bytes', bytes)
  call('PEXPIRE', snapshot_key(room), ttl)
end

function commands.acquire(room, member, keeps, falls_back, region, grace)
  -- The clock may be set back.
  local kept = tonumber(call('GET', BEGUN))
  local begun = math.min(kept or now, now)
  if begun ~= kept then
    call('SET', BEGUN, text(begun))
  end
  local owner, epoch = owner_of(room)
  if owner then
    if owner ~= member then
      local is_alive, url = lease_of(owner)
      if is_alive then
        return at(room, owner, url, epoch)
      end
      -- Its lease does not come to life again if the clock is set back: it has to verify what it had.
      call('HSET', node_key(node_of(owner)), 'until', '0', 'lapsed', text(now))
    end
  elseif now < begun + grace then
    return { 'recovering' }
  end
  local own = lease_of(member) and member
  local chosen = (keeps == '1' or owner == member) and own or choose(member, region)
    or (falls_back == '1' and own)
  if not chosen then
    return { 'full' }
  end
  return place(room, chosen, epoch)
end

function commands.move(member, room, claimed, region, snapshot, ttl)
  local owner, epoch = owner_of(room)
  if owner ~= member or epoch ~= tonumber(claimed) then
    return { 'recovering' }
  end
  local chosen = choose(member, region)
  if not chosen then
    return { 'full' }
  end
  keep_snapshot(room, snapshot, ttl)
  return place(room, chosen, epoch)
end

function commands.snapshots(member, ttl, ...)
  local snapshots = { ... }
  for number = 1, #snapshots, 3 do
    local room, claimed = snapshots[number], tonumber(snapshots[number + 1])
    local owner, epoch = owner_of(room)
    if owner == member and epoch == claimed then
      keep_snapshot(room, snapshots[number + 2], ttl)
    end
  end
  return {}
end

function commands.snapshot(room)
  local kept = call('HMGET', snapshot_key(room), 'at', 'bytes')
  return kept[1] and { text(math.max(now - kept[1], 0)), kept[2] } or {}
end

-- No room gets an epoch again that another process has claimed.
local function note_epoch(epoch)
  if epoch > (tonumber(call('GET', EPOCH)) or 0) then
    call('SET', EPOCH, text(epoch))
  end
end

function commands.reassert(member, ...)
  local leases, epochs = { ... }, {}
  local may_own = is_current(member)
  for number = 1, #leases, 2 do
    local room, claimed, answer = leases[number], tonumber(leases[number + 1]), ''
    if may_own then
      local owner, epoch = owner_of(room)
      if owner == member then
        epoch = math.max(epoch, claimed)
        answer = text(epoch)
        call('HSET', room_key(room), 'epoch', answer)
        note_epoch(epoch)
      -- An owner that lives has been told that the room is its own, whatever it was before.
      elseif not owner or (epoch < claimed and not lease_of(owner)) then
        give(room, member, claimed)
        answer = text(claimed)
        note_epoch(claimed)
      end
    end
    epochs[#epochs + 1] = answer
  end
  return epochs
end

function commands.release(member, ...)
  local leases = { ... }
  for number = 1, #leases, 3 do
    local room, epoch, has_ended = leases[number], leases[number + 1], leases[number + 2]
    local kept = call('HMGET', room_key(room), 'owner', 'epoch')
    if kept[1] == member and kept[2] == epoch then
      call('DEL', room_key(room))
      call('SREM', rooms_key(member), room)
      if has_ended == '1' then
        call('DEL', snapshot_key(room))
      end
    end
  end
  return {}
end

function commands.leave(member)
  if is_current(member) then
    local node = node_of(member)
    remove_node(node, member, call('HGET', node_key(node), 'region'))
  end
  return {}
end

function commands.save(ttl, ...)
  local updates = { ... }
  for number = 1, #updates, 6 do
    local key, epoch, room = session_key(updates[number]), updates[number + 1], updates[number + 2]
    local kept = call('HGET', key, 'epoch')
    if not kept or tonumber(kept) <= tonumber(epoch) then
      if room == '' then
        call('DEL', key)
      else
        call('HSET', key, 'epoch', epoch, 'room', room, 'user', updates[number + 3], 'token',
          updates[number + 4], 'former', updates[number + 5])
        call('PEXPIRE', key, ttl)
      end
    end
  end
  return {}
end

function commands.find(id)
  local kept = call('HMGET', session_key(id), 'room', 'user', 'token', 'former')
  return kept[1] and kept or {}
end

function commands.publish(member, ttl, lines)
  if is_current(member) then
    if lines == '' then
      call('DEL', listing_key(member))
      call('SREM', LISTING, node_of(member))
    else
      call('SET', listing_key(member), lines, 'PX', ttl)
      call('SADD', LISTING, node_of(member))
    end
  end
  return {}
end

-- Of some nodes, if there are many, and a share of each.
function commands.rooms(member, bytes, nodes)
  local listings = {}
  for _, node in ipairs(call('SRANDMEMBER', LISTING, nodes)) do
    local kept = call('HMGET', node_key(node), 'member', 'until')
    if node ~= node_of(member) and kept[1] and tonumber(kept[2]) > now
      and call('EXISTS', listing_key(kept[1])) == 1 then
      listings[#listings + 1] = listing_key(kept[1])
    end
  end
  local share = math.floor(bytes / math.max(#listings, 1))
  for number, key in ipairs(listings) do
    listings[number] = call('GETRANGE', key, 0, share - 1)
  end
  return listings
end

function commands.nodes(count)
  local found = { text(now), text(call('SCARD', NODES)) }
  for _, node in ipairs(call('SRANDMEMBER', NODES, count)) do
    local kept = call('HMGET', node_key(node), 'member', 'since', 'until', 'url', 'region', 'load', 'takes_rooms',
      'draining', 'rooms', 'players')
    if kept[1] then
      -- A node of a former version does not say whether it drains.
      kept[8] = kept[8] or '0'
      for number = 1, 10 do
        found[#found + 1] = kept[number]
      end
    end
  end
  return found
end

return commands[command](unpack(ARGV, 2))
