-- Reads packed clicks of one partition.
--
-- KEYS[i]  a click, a hash
--
-- Returns an array, in order: the packed click, or nil where it is not cached.

local packed = {}
for i = 1, #KEYS do
    packed[i] = redis.call('HGET', KEYS[i], '.')
end
return packed
