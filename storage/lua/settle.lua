-- Acknowledges and deletes entries, all or none, and counts their rows as settled.
--
-- KEYS[1]  the stream
-- KEYS[2]  what is counted of it, a hash; see dedup/lua/claim.lua
-- ARGV[1]  the group
-- then two for each number of rows that entries have:
--   rows   how many rows of each were counted when they were queued
--   ids    these entries' ids, with spaces between: as one argument they cost the client next to nothing
--
-- Returns how many were deleted. What another has deleted before is not counted again.

local settled = tonumber(redis.call('HGET', KEYS[2], 'out')) or 0
local deleted, rows = 0, 0
for at = 2, #ARGV, 2 do
    local ids = {}
    for id in string.gmatch(ARGV[at + 1], '%S+') do
        ids[#ids + 1] = id
    end
    local gone = 0
    for first = 1, #ids, 1000 do -- unpack takes no more than about 8000
        local last = math.min(first + 999, #ids)
        redis.call('XACK', KEYS[1], ARGV[1], unpack(ids, first, last))
        gone = gone + redis.call('XDEL', KEYS[1], unpack(ids, first, last))
    end
    deleted = deleted + gone
    rows = rows + gone * tonumber(ARGV[at])
end
if rows > 0 then
    redis.call('HSET', KEYS[2], 'out', string.format('%.0f', settled + rows))
end
return deleted
