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
-- "" if the queue has no room for the batch: nothing was changed. An error for a click's key that is no hash: the entries
-- before it are claimed and queued.

-- Local functions would cost a call of one entry half as much again: each, and each local that they share, is an object.

local call, find, sub = redis.call, string.find, string.sub
local queue, count = KEYS[1], KEYS[2]
local entries = #KEYS - 2
local most_rows, most_bytes, token_length = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

-- An entry has one row at least and `most_rows` at most: so many at least and at most wait, whatever is counted (keys were
-- lost, a stream was trimmed by hand). As in storage/lua/backlog.lua; here a count that cannot be is also put right.
local length = call('XLEN', queue)
local counted = call('HMGET', count, 'in', 'out')
local came, went = tonumber(counted[1]) or 0, tonumber(counted[2]) or 0
local is_wrong = came - went > length * most_rows or (length == 0 and came ~= went)
if is_wrong then
    went = came - length * most_rows
end
if math.max(length, came - went) + entries > tonumber(ARGV[1]) then
    return ''
end

local letters, problem = {}, nil
local parts, size, rows, conversions, parked = {}, 0, 0, 0, 0 -- the block that is being filled
local queued = 0
local at = 5
for i = 1, entries + 1 do
    local kind, payload, prior -- the row to be queued; no kind: none
    if i <= entries and not problem then
        local click, field, value = KEYS[i + 2], ARGV[at + 2], ARGV[at + 3]
        payload = ARGV[at + 1]
        -- What is claimed is queued, even where a later click's key is of another type.
        local is_set = field == '' or redis.pcall('HSETNX', click, field, value)
        if is_set == true or is_set == 1 then
            kind, letters[i] = ARGV[at], 'a'
            if is_set == 1 and call('HLEN', click) == 1 then
                call('PEXPIREAT', click, ARGV[at + 4])
            end
        elseif is_set == 0 then
            local held = call('HGET', click, field)
            prior = sub(held, token_length + 1)
            if sub(held, 1, token_length) == sub(value, 1, token_length) then
                -- Written once more: WAITAOF and WAIT wait for the last write of their own connection, and this is a
                -- new one.
                call('HSET', click, field, held)
                letters[i] = 'a'
            elseif prior == sub(value, token_length + 1) then
                kind, letters[i] = 'd1', 'd'
            else
                kind, letters[i] = 'x1', 'x'
            end
        else
            problem = is_set
        end
        at = at + 5
    end

    local is_alone = kind and find(payload, '\n', 1, true)
    local middle, bytes = '\t\t', 0
    if kind and not is_alone then
        if prior then
            if find(prior, '[%c\\\128-\255]') then -- facts are plain ASCII, and yet no claim may break a block
                local named = { ['\\'] = '\\\\', ['\t'] = '\\t', ['\n'] = '\\n', ['\r'] = '\\r' }
                prior = string.gsub(prior, '[%c\\\128-\255]', function(byte)
                    return named[byte] or string.format('\\\\x%02x', string.byte(byte))
                end)
            end
            middle = '\t' .. prior .. '\t'
        end
        bytes = #kind + #middle + #payload + 1
    end
    if rows > 0 and (i > entries or is_alone or rows == most_rows or size + bytes > most_bytes) then
        local block = table.concat(parts, '', 1, 4 * rows)
        call('XADD', queue, '*', 'b1', block, 'n', rows .. ' ' .. conversions .. ' ' .. parked)
        queued = queued + rows
        size, rows, conversions, parked = 0, 0, 0, 0
    end
    if is_alone and prior then
        call('XADD', queue, '*', kind, payload, 'p', prior)
    elseif is_alone then
        call('XADD', queue, '*', kind, payload)
    elseif kind then
        local used = 4 * rows
        parts[used + 1], parts[used + 2], parts[used + 3], parts[used + 4] = kind, middle, payload, '\n'
        size, rows = size + bytes, rows + 1
        if kind == 'c1' then
            conversions = conversions + 1
        elseif kind == 'p1' then
            parked = parked + 1
        end
    end
end

if queued > 0 then
    call('HSET', count, 'in', string.format('%.0f', came + queued))
    if is_wrong then
        call('HSET', count, 'out', string.format('%.0f', went))
    end
end
return problem or table.concat(letters)
