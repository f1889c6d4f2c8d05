-- Keeps clicks of one partition until they expire. A click that is already there stays: the first registration wins.
--
-- KEYS[i]  a click, a hash
-- then two for each click:
--   ARGV     the packed click
--   ARGV     when the hash may go, epoch ms
--
-- Returns how many were new.

local new = 0
for i = 1, #KEYS do
    if redis.call('HSETNX', KEYS[i], '.', ARGV[2 * i - 1]) == 1 then
        redis.call('PEXPIREAT', KEYS[i], ARGV[2 * i])
        new = new + 1
    end
end
return new
