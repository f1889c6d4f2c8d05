-- Takes over entries that were given to consumers which are gone, or which have held them for very long.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  the caller, a consumer
-- ARGV[3]  how long a consumer has not been seen that is gone, ms
-- ARGV[4]  how long an entry has been held that is taken from a living consumer too, ms
-- ARGV[5]  the most entries to take; at most 1000
--
-- Returns the entries as XCLAIM does.

local taken = {}
local room = tonumber(ARGV[5])
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #flat, 2 do
        consumer[flat[i]] = flat[i + 1]
    end
    if room > 0 and consumer.name ~= ARGV[2] and consumer.pending > 0 then
        local held = consumer.idle >= tonumber(ARGV[3]) and 0 or ARGV[4]
        local ids = {}
        for _, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], 'IDLE', held, '-', '+', room, consumer.name)) do
            ids[#ids + 1] = one[1]
        end
        if #ids > 0 then
            for _, entry in ipairs(redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, unpack(ids))) do
                taken[#taken + 1] = entry
            end
            room = room - #ids
        end
    end
end
return taken
