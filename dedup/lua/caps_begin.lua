-- Begins to count a campaign's conversions anew: locks its counters for one who counts, and tells how they stand.
--
-- KEYS[1]    the campaign's counters, a hash
-- ARGV[1]    who counts, without a space
-- ARGV[2]    how long nobody else may, ms; asking again starts it anew
-- ARGV[3]    how long a postback may hold what it took until it is settled, ms: what is older is forgotten here
--
-- Returns nothing if somebody else counts; else the time, epoch ms; when this hash was made; then fields and values.

local key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local lock = redis.call('HGET', key, '.lock')
if lock then
    local who, until_ms = string.match(lock, '^(%S+) (%d+)$')
    if who ~= ARGV[1] and tonumber(until_ms) > now then
        return {}
    end
end
redis.call('HSET', key, '.lock', ARGV[1] .. ' ' .. string.format('%.0f', now + tonumber(ARGV[2])))
redis.call('HSETNX', key, '.born', string.format('%.0f', now))
local reply = {string.format('%.0f', now), redis.call('HGET', key, '.born')}
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'o:' and tonumber(string.match(fields[i + 1], '^%d+')) + tonumber(ARGV[3]) <= now then
        redis.call('HDEL', key, fields[i])
    else
        reply[#reply + 1] = fields[i]
        reply[#reply + 1] = fields[i + 1]
    end
end
return reply
