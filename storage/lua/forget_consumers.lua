-- Removes consumers that are gone from a stream's group: none of their entries is pending and they have not asked for
-- long. One call, since removing a consumer forgets what it was given a moment before.
--
-- KEYS[1]  the stream
-- ARGV[1]  the group
-- ARGV[2]  a consumer that stays: the caller
-- ARGV[3]  how long a consumer must have been idle, ms
--
-- Returns how many were removed.

local removed = 0
for _, flat in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local consumer = {}
    for i = 1, #flat, 2 do
        consumer[flat[i]] = flat[i + 1]
    end
    if consumer.name ~= ARGV[2] and consumer.pending == 0 and consumer.idle >= tonumber(ARGV[3]) then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], consumer.name)
        removed = removed + 1
    end
end
return removed
