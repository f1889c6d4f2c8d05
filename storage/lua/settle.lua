-- Acknowledges and deletes entries, all or none.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  the entries' ids, with spaces between: as one argument they cost the client next to nothing
--
-- Returns how many were deleted.

local ids = {}
for id in string.gmatch(ARGV[2], '%S+') do
    ids[#ids + 1] = id
end
local deleted = 0
for first = 1, #ids, 1000 do -- unpack takes no more than about 8000
    local last = math.min(first + 999, #ids)
    redis.call('XACK', KEYS[1], ARGV[1], unpack(ids, first, last))
    deleted = deleted + redis.call('XDEL', KEYS[1], unpack(ids, first, last))
end
return deleted
