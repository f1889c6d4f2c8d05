-- Takes room under caps for a batch of conversions, for each under all of its caps or under none.
--
-- KEYS[i]    the counters of conversion i's campaign, a hash
-- then for each conversion:
--   id       the postback's own id: who asks again holds what it holds
--   what     the conversion's id, a space, when the postback was received (us), for whoever counts anew
--   n        how many caps, then five for each:
--     counter  the counter's field, without "n:"
--     scope    what must be known for it, without "k:"
--     start    when the counter's period began, epoch ms
--     amount   what is taken: conversions, or micros
--     limit    the most there may be
--
-- Fields of the hash: n:<counter> what is taken; k:<scope> since when all is known: of periods that began then or later a
-- counter that is missing is 0, any other is unknown; o:<id> what a postback holds until it is settled: "at_ms times what",
-- then counter and amount in turns.
--
-- Returns one number for each: 0 = it holds them all; j > 0 = cap j would be crossed; -1 = a counter is unknown. Of the
-- last two it holds nothing new. Amounts are texts: a Lua number is exact up to 2^53 only, HINCRBY up to 2^63.

local function exceeds(a, b)
    if string.sub(a, 1, 1) == '-' then
        return false
    end
    return #a > #b or (#a == #b and a > b)
end

local time = redis.call('TIME')
local now = time[1] .. string.format('%03d', math.floor(tonumber(time[2]) / 1000))
local results = {}
local at = 1
for i = 1, #KEYS do
    local key, id, what, caps = KEYS[i], ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
    at = at + 3
    local result = 0
    for j = 1, caps do
        local known = redis.call('HGET', key, 'k:' .. ARGV[at + 5 * j - 4])
        if not known or tonumber(ARGV[at + 5 * j - 3]) < tonumber(known) then
            result = -1
        end
    end
    if result == 0 then
        local held, times, order = {}, 0, {}
        local before = redis.call('HGET', key, 'o:' .. id)
        if before then
            local words = {}
            for word in string.gmatch(before, '%S+') do
                words[#words + 1] = word
            end
            times = tonumber(words[2])
            for w = 5, #words, 2 do
                held[words[w]] = words[w + 1]
                order[#order + 1] = words[w]
            end
        end
        local taken = {}
        for j = 1, caps do
            local first = at + 5 * (j - 1)
            local counter, amount, limit = ARGV[first], ARGV[first + 3], ARGV[first + 4]
            local has = held[counter] or '0'
            if exceeds(amount, has) then
                redis.call('HINCRBY', key, 'n:' .. counter, amount)
                if has ~= '0' then
                    redis.call('HINCRBY', key, 'n:' .. counter, '-' .. has)
                end
                taken[#taken + 1] = {counter, amount, has}
                if exceeds(redis.call('HGET', key, 'n:' .. counter), limit) then
                    result = j
                    break
                end
            end
        end
        if result > 0 then
            for _, one in ipairs(taken) do
                redis.call('HINCRBY', key, 'n:' .. one[1], '-' .. one[2])
                redis.call('HINCRBY', key, 'n:' .. one[1], one[3])
            end
        else
            for _, one in ipairs(taken) do
                if not held[one[1]] then
                    order[#order + 1] = one[1]
                end
                held[one[1]] = one[2]
            end
            local value = {now, tostring(times + 1), what}
            for _, counter in ipairs(order) do
                value[#value + 1] = counter
                value[#value + 1] = held[counter]
            end
            redis.call('HSET', key, 'o:' .. id, table.concat(value, ' '))
        end
    end
    results[i] = result
    at = at + 5 * caps
end
return results
