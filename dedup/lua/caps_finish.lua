-- Ends a count that caps_begin.lua began: counters are moved to what was counted, by differences, so that what was
-- taken and given back meanwhile stays.
--
-- KEYS[1]    the campaign's counters, a hash
-- ARGV[1]    who counted
-- ARGV[2]    how long the hash is kept from now, ms
-- ARGV[3]    how many counters, then two for each: the counter, without "n:"; what is added to it, perhaps negative
-- then       how many scopes, then two for each: the scope, without "k:"; since when it is known, epoch ms
-- then       the fields that go
--
-- Returns 1, or 0 if another one counts by now or Redis has lost its memory: nothing was changed.

local key = KEYS[1]
local lock = redis.call('HGET', key, '.lock')
if not lock or string.match(lock, '^%S+') ~= ARGV[1] then
    return 0
end
local at = 4
for _ = 1, tonumber(ARGV[3]) do
    redis.call('HINCRBY', key, 'n:' .. ARGV[at], ARGV[at + 1])
    at = at + 2
end
local scopes = tonumber(ARGV[at])
at = at + 1
for _ = 1, scopes do
    redis.call('HSET', key, 'k:' .. ARGV[at], ARGV[at + 1])
    at = at + 2
end
for i = at, #ARGV do
    redis.call('HDEL', key, ARGV[i])
end
redis.call('HDEL', key, '.lock')
redis.call('PEXPIRE', key, ARGV[2])
return 1
