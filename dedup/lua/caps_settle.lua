-- Ends what postbacks hold under caps, once it is known what became of their conversions.
--
-- KEYS[i]    the counters of postback i's campaign, a hash
-- then for each postback:
--   id       its own id
--   end      k = counted: what it held stays taken; b = not counted: it is given back; u = this attempt did not count:
--            given back if it was the only one, else an earlier one may have counted, and it is left open
--
-- Returns how many held something. Who holds nothing (any more) changes nothing.

local found = 0
for i = 1, #KEYS do
    local key, open, how = KEYS[i], 'o:' .. ARGV[2 * i - 1], ARGV[2 * i]
    local value = redis.call('HGET', key, open)
    if value then
        found = found + 1
        local words = {}
        for word in string.gmatch(value, '%S+') do
            words[#words + 1] = word
        end
        if how == 'b' or (how == 'u' and words[2] == '1') then
            for w = 5, #words, 2 do
                redis.call('HINCRBY', key, 'n:' .. words[w], '-' .. words[w + 1])
            end
            redis.call('HDEL', key, open)
        elseif how == 'k' then
            redis.call('HDEL', key, open)
        end
    end
end
return found
