"""Load by wrk: files of prepared requests, runs, and what a run measured."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import Cores, on_cores

SCRIPT: Final = Path(__file__).with_name("load.lua")
GRACE_S: Final = 30.0


class LoadError(Exception):
    """The load cannot be made; the message says what to do."""


class LoadResult(msgspec.Struct, frozen=True):
    """One run. `beyond`: requests after the file's end, harmless ones; `refused`: answers that are not 2xx or 3xx;
    `failed`: counts by connect, read, write, time-out."""

    requests: int
    beyond: int
    seconds: float
    refused: int
    failed: dict[str, int]
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int

    @property
    def answered(self) -> int:
        """Requests of the file that were answered with 2xx, at least."""
        return self.requests - self.beyond - self.refused


def find_wrk() -> str:
    """The program. Raises LoadError with a hint where it is missing."""
    found = shutil.which("wrk")
    if found is None:
        raise LoadError("wrk is not on PATH: install it (Debian, Ubuntu: apt-get install wrk; macOS: brew install wrk)")
    return found


def write_frames(path: Path, requests: Iterable[bytes]) -> int:
    """Requests as the script reads them; how many."""
    count = 0
    with path.open("wb") as file:
        for request in requests:
            file.write(b"%d\n%b" % (len(request), request))
            count += 1
    return count


async def send(
    frames: Path,
    port: int,
    *,
    connections: int,
    seconds: float,
    cores: Cores,
    loop: bool = False,
    rate: float = 0.0,
) -> LoadResult:
    """Send the file's requests for `seconds`, or until it is used up unless `loop`; at most `rate` a second (0: as many
    as are answered). Raises LoadError."""
    options = ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s"]
    script = ["-s", str(SCRIPT), f"http://127.0.0.1:{port}/", "--", str(frames), "loop" if loop else "once", str(rate)]
    with on_cores(cores):
        process = await asyncio.create_subprocess_exec(
            find_wrk(), *options, *script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    try:
        async with asyncio.timeout(seconds + GRACE_S):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        raise LoadError(f"wrk did not end within {seconds + GRACE_S:g} s") from None
    for line in output.splitlines():
        if line.startswith(b"BENCH "):
            return msgspec.json.decode(line.removeprefix(b"BENCH "), type=LoadResult)
    raise LoadError(f"wrk ended with {process.returncode} and said:\n{output.decode(errors='replace')}")
