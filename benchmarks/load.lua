-- Sends the requests of a file, each once, in order. A frame of the file is its length, a newline, the raw request.
--
-- Arguments after `--`:
--   1  the file
--   2  "once": stop when the file is used up; "loop": begin anew
--   3  requests per second to send at most; 0: as many as are answered
--
-- Prints one line, `BENCH` and JSON: counts, errors, seconds, latency in us.

local ffi = require("ffi")
ffi.cdef[[
typedef struct { long sec; long nsec; } bench_time;
int clock_gettime(int clock, bench_time *time);
int getpid(void);
int kill(int pid, int signal);
]]
local MONOTONIC, SIGINT = 1, 2
local time = ffi.new("bench_time")

local function now_ms()
    ffi.C.clock_gettime(MONOTONIC, time)
    return tonumber(time.sec) * 1000 + tonumber(time.nsec) / 1e6
end

local threads = {}
function setup(thread)
    table.insert(threads, thread)
end

local frames, again, interval_ms, due_ms
beyond = 0 -- requests made after the file's end; a global, so that `done` can read it

function init(args)
    frames = assert(io.open(args[1], "rb"))
    again = args[2] == "loop"
    local rate = tonumber(args[3])
    if rate > 0 then
        interval_ms = 1000 / rate
        function delay() -- wrk looks for it once, after this
            local now = now_ms()
            due_ms = math.max((due_ms or now) + interval_ms, now - 1000)
            return math.max(0, math.floor(due_ms - now + 0.5))
        end
    end
end

function request()
    local length = frames:read("*l")
    if length == nil and again then
        frames:seek("set", 0)
        length = frames:read("*l")
    end
    if length ~= nil then
        return frames:read(tonumber(length))
    end
    beyond = beyond + 1
    if beyond == 1 then
        wrk.thread:stop()
        ffi.C.kill(ffi.C.getpid(), SIGINT) -- ends the main thread's sleep, so that the duration is the true one
    end
    return "GET /healthz HTTP/1.1\r\nHost: postback.example\r\n\r\n"
end

function done(summary, latency, requests)
    local made_beyond = 0
    for _, thread in ipairs(threads) do
        made_beyond = made_beyond + thread:get("beyond")
    end
    local errors = summary.errors
    io.write(string.format(
        'BENCH {"requests":%d,"beyond":%d,"seconds":%.6f,"refused":%d,"failed":{"connect":%d,"read":%d,"write":%d,"time-out":%d},' ..
        '"p50_us":%d,"p90_us":%d,"p99_us":%d,"p999_us":%d,"max_us":%d}\n',
        summary.requests, made_beyond, summary.duration / 1e6, errors.status,
        errors.connect, errors.read, errors.write, errors.timeout,
        latency:percentile(50), latency:percentile(90), latency:percentile(99), latency:percentile(99.9), latency.max))
end
