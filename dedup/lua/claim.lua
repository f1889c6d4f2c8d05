-- Claims a batch of decided postbacks of one partition and queues each, atomically with its claim.
--
-- KEYS[1]    the partition's queue, a stream
-- KEYS[1+i]  entry i's click, a hash; the queue's key where the entry claims nothing
-- ARGV[1]    the most entries that the queue may hold
-- ARGV[2]    length of a token in bytes
-- then five for each entry:
--   kind     the stream entry's field name
--   payload  the stream entry's value
--   field    the claim's field in the click's hash; empty: nothing is claimed
--   value    the caller's token, then the fact that is claimed
--   expires  when a hash that this claim creates may go, epoch ms
--
-- Returns one letter for each entry: a = accepted (or accepted before under the same token: not queued again),
-- d = duplicate (the same fact is claimed), x = conflict (another fact is claimed); both are queued for the log, with
-- the claimed fact in field "p". Returns "" if the queue has no room for the batch: nothing was changed.

local queue = KEYS[1]
local entries = #KEYS - 1
if redis.call('XLEN', queue) + entries > tonumber(ARGV[1]) then
    return ''
end

local token_length = tonumber(ARGV[2])
local letters = {}
local at = 3
for i = 1, entries do
    local click, kind, payload = KEYS[i + 1], ARGV[at], ARGV[at + 1]
    local field, value = ARGV[at + 2], ARGV[at + 3]
    if field == '' then
        redis.call('XADD', queue, '*', kind, payload)
        letters[i] = 'a'
    elseif redis.call('HSETNX', click, field, value) == 1 then
        redis.call('XADD', queue, '*', kind, payload)
        if redis.call('HLEN', click) == 1 then
            redis.call('PEXPIREAT', click, ARGV[at + 4])
        end
        letters[i] = 'a'
    else
        local held = redis.call('HGET', click, field)
        local fact = string.sub(held, token_length + 1)
        if string.sub(held, 1, token_length) == string.sub(value, 1, token_length) then
            -- Written once more: WAITAOF and WAIT wait for the last write of their own connection, and this is a new one.
            redis.call('HSET', click, field, held)
            letters[i] = 'a'
        elseif fact == string.sub(value, token_length + 1) then
            redis.call('XADD', queue, '*', 'd1', payload, 'p', fact)
            letters[i] = 'd'
        else
            redis.call('XADD', queue, '*', 'x1', payload, 'p', fact)
            letters[i] = 'x'
        end
    end
    at = at + 5
end
return table.concat(letters)
