"""`python -m benchmarks.connections`: what open connections cost a receiver, from 10 to 10,000.

Every connection stays open and sends a postback now and then, as advertisers' servers behind a balancer do. Prints a
table in Markdown: memory of the receiver, and its processor time for each postback with that many connections open.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer
import uvloop

from benchmarks.measure import cpu_s
from ingest.config import Config
from ingest.engines import running_urls
from tests.platform import Client, client_of, load_sample, sample_is_known
from tests.program import Program, running

COUNTS: Final = (10, 100, 1_000, 10_000)
POSTBACKS: Final = 5_000
AT_ONCE: Final = 128
LIMIT_MIB: Final = 150


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


class Sender:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> Sender:
        """Open it."""
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=4096))

    async def send(self, number: int) -> None:
        """One postback, which must be accepted."""
        query = f"click_id=kept&goal=purchase&txn_id=c{number}&sale_amount=1.50&device_model=Pixel&os_version=16.1"
        self._writer.write(f"GET /postback?{query} HTTP/1.1\r\nHost: postback.example\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        if b"accepted" not in body:
            raise ValueError(body.decode())


async def measure(program: Program, client: Client, counts: tuple[int, ...]) -> list[tuple[int, float, float, float]]:
    """(connections, MiB, us of processor time for each postback, postbacks a second) for each count."""
    (pid,) = program.workers("receiver")
    port = urlsplit(program.url).port or 0
    await client.register("kept")
    senders: list[Sender] = []
    rows = []
    number = 0
    for count in counts:
        while len(senders) < count:
            missing = min(AT_ONCE, count - len(senders))
            senders += await asyncio.gather(*(Sender.connect(port) for _ in range(missing)))
        rounds = max(1, POSTBACKS // count)
        before, began = cpu_s(pid), time.perf_counter()
        for _ in range(rounds):
            for start in range(0, count, AT_ONCE):
                wave = senders[start : start + AT_ONCE]
                await asyncio.gather(*(sender.send(number + place) for place, sender in enumerate(wave)))
                number += len(wave)
        sent = rounds * count
        seconds = time.perf_counter() - began
        rows.append((count, rss_mib(pid), (cpu_s(pid) - before) / sent * 1e6, sent / seconds))
    return rows


async def run(most: int) -> bool:
    """Start everything, measure, print; whether the memory is within its limit."""
    counts = tuple(count for count in COUNTS if count <= most)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        with running(data, SERVER__MAX_CONNECTIONS=str(most + 100)) as program:
            urls = running_urls(Config(data_dir=str(data)))
            assert urls is not None, "they run"
            await load_sample(urls.postgres_dsn)
            await sample_is_known(program)
            async with client_of(program, urls.postgres_dsn) as client:
                rows = await measure(program, client, counts)
    print("| open connections | receiver MiB | CPU us a postback | postbacks/s |\n|---|---|---|---|")
    for count, mib, cpu_us, per_s in rows:
        print(f"| {count:,} | {mib:.0f} | {cpu_us:.0f} | {per_s:,.0f} |")
    return rows[-1][1] < LIMIT_MIB


def main(most: Annotated[int, typer.Option(min=10, help="The most connections.")] = COUNTS[-1]) -> None:
    """Measure open connections; fails where a receiver takes 150 MiB or more."""
    sys.exit(0 if uvloop.run(run(most)) else 1)


if __name__ == "__main__":
    typer.run(main)
