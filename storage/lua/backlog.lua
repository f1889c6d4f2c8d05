-- How much waits in a queue, and how much ever came, of one moment.
--
-- KEYS[1]  the stream
-- KEYS[2]  what is counted of it, a hash; see dedup/lua/claim.lua
-- ARGV[1]  the most rows of an entry
--
-- Returns the rows in the queue and the rows ever queued. An entry has one row at least and ARGV[1] at most: so many at
-- least and at most are in the queue, whatever is counted. Entries of receivers that did not count yet are seen only so.

local length = redis.call('XLEN', KEYS[1])
local counted = redis.call('HMGET', KEYS[2], 'in', 'out')
local came, went = tonumber(counted[1]) or 0, tonumber(counted[2]) or 0
return { math.max(length, math.min(came - went, length * tonumber(ARGV[1]))), came }
