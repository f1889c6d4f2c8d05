-- Claims a batch of decided postbacks of one partition and queues them, atomically with their claims.
--
-- KEYS[1]    the partition's queue, a stream
-- KEYS[2]    what is counted of it, a hash: `in`, the rows ever queued, and `out`, those settled
-- KEYS[2+i]  entry i's click, a hash; the queue's key where the entry claims nothing
-- ARGV[1]    the most rows that the queue may hold
-- ARGV[2]    the most rows of a block
-- ARGV[3]    the most bytes of a block; one row that is larger is a block by itself
-- ARGV[4]    length of a token in bytes
-- then five for each entry:
--   kind     the row's kind
--   payload  the row's line, without the newline
--   field    the claim's field in the click's hash; empty: nothing is claimed
--   value    the caller's token, then the fact that is claimed
--   expires  when a hash that this claim creates may go, epoch ms
--
-- The rows go into few entries of the stream. Field `b1` is a block of lines, `kind \t prior \t payload \n`, as they are
-- copied into Postgres: the prior is the fact that was claimed first, of a repeat. Field `n` says how many of them there
-- are: "rows conversions parked". A payload that would not be one line is an entry by itself and is not counted: its
-- field is the kind, its value the payload, and `p` of a repeat the prior.
--
-- Returns one letter for each entry: a = accepted (or accepted before under the same token: not queued again),
-- d = duplicate (the same fact is claimed), x = conflict (another fact is claimed); both are queued for the log. Returns
-- "" if the queue has no room for the batch: nothing was changed.

local call, find, sub = redis.call, string.find, string.sub
local queue, count = KEYS[1], KEYS[2]
local entries = #KEYS - 2
local most_rows, most_bytes, token_length = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- As in storage/lua/backlog.lua. An entry has one row at least and `most_rows` at most, so a count that went wrong (keys
-- lost, a stream trimmed by hand) is bounded by the length, and right again once the queue was empty.
local length = call('XLEN', queue)
local counted = call('HMGET', count, 'in', 'out')
local came, went = tonumber(counted[1]) or 0, tonumber(counted[2]) or 0
if math.max(length, math.min(came - went, length * most_rows)) + entries > tonumber(ARGV[1]) then
    return ''
end

local parts, used, size = {}, 0, 0 -- the block that is being filled
local rows, conversions, parked = 0, 0, 0
local queued = 0

local function close()
    if rows > 0 then
        local block = table.concat(parts, '', 1, used)
        call('XADD', queue, '*', 'b1', block, 'n', rows .. ' ' .. conversions .. ' ' .. parked)
        queued = queued + rows
        used, size, rows, conversions, parked = 0, 0, 0, 0, 0
    end
end

local named = { ['\\'] = '\\\\', ['\t'] = '\\t', ['\n'] = '\\n', ['\r'] = '\\r' }
local function escaped(byte)
    return named[byte] or string.format('\\\\x%02x', string.byte(byte))
end

local function put(kind, prior, payload)
    if find(payload, '\n', 1, true) then
        close()
        if prior == '' then
            call('XADD', queue, '*', kind, payload)
        else
            call('XADD', queue, '*', kind, payload, 'p', prior)
        end
        return
    end
    local middle = '\t\t'
    if prior ~= '' then -- facts are plain ASCII, and yet no claim may break a block
        prior = string.gsub(prior, '[%c\\\128-\255]', escaped)
        middle = '\t' .. prior .. '\t'
    end
    local bytes = #kind + #middle + #payload + 1
    if rows == most_rows or (rows > 0 and size + bytes > most_bytes) then
        close()
    end
    parts[used + 1], parts[used + 2], parts[used + 3], parts[used + 4] = kind, middle, payload, '\n'
    used, size, rows = used + 4, size + bytes, rows + 1
    if kind == 'c1' then
        conversions = conversions + 1
    elseif kind == 'p1' then
        parked = parked + 1
    end
end

local letters = {}
local function decide()
    local at = 5
    for i = 1, entries do
        local click, kind, payload = KEYS[i + 2], ARGV[at], ARGV[at + 1]
        local field, value = ARGV[at + 2], ARGV[at + 3]
        if field == '' then
            put(kind, '', payload)
            letters[i] = 'a'
        elseif call('HSETNX', click, field, value) == 1 then
            put(kind, '', payload)
            if call('HLEN', click) == 1 then
                call('PEXPIREAT', click, ARGV[at + 4])
            end
            letters[i] = 'a'
        else
            local held = call('HGET', click, field)
            local fact = sub(held, token_length + 1)
            if sub(held, 1, token_length) == sub(value, 1, token_length) then
                -- Written once more: WAITAOF and WAIT wait for the last write of their own connection, and this is a
                -- new one.
                call('HSET', click, field, held)
                letters[i] = 'a'
            elseif fact == sub(value, token_length + 1) then
                put('d1', fact, payload)
                letters[i] = 'd'
            else
                put('x1', fact, payload)
                letters[i] = 'x'
            end
        end
        at = at + 5
    end
end

-- What is claimed is queued, even where a later entry ends in an error (its click's key is of another type).
local is_done, problem = pcall(decide)
close()
if queued > 0 then
    call('HSET', count, 'in', string.format('%.0f', came + queued))
    if length == 0 and went ~= came then
        call('HSET', count, 'out', string.format('%.0f', came))
    end
end
if not is_done then
    return type(problem) == 'table' and problem or redis.error_reply(tostring(problem))
end
return table.concat(letters)
