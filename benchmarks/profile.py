"""Flame graphs of a receiver and of a writer under load: `python -m benchmarks.profile`, or `make profile`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Final

import orjson
import typer

from benchmarks.engines import Platform, platform
from benchmarks.flame import by_function, by_part, flame_graph
from benchmarks.load import LoadError, send
from benchmarks.measure import cpu_s, layouts, on_cores
from benchmarks.prepared import prepare
from benchmarks.programs import free_port
from benchmarks.run import OUT, short_lived_folder
from ingest.config import Config
from ingest.orders import Orders, Role, encode_orders
from tests.program import ROOT

TOP: Final = 25
_REDIS: Final = "talk to Redis"
_PARTS: Final = {
    Role.RECEIVER: {
        "ingest.simple_request": "HTTP",
        "ingest.fast_protocol": "HTTP",
        "ingest.bodies": "parse",
        "ingest.reading": "parse",
        "ingest.wire": "parse",
        "ingest.click": "click",
        "ingest.decide": "decide",
        "ingest.money": "decide",
        "dedup.policy": "decide",
        "storage.records": "encode for the queue",
        "ingest.recorder:entry_of": "encode for the queue",
        "ingest.answers": "answer",
        "ingest.receiver:respond": "answer",
        "dedup.": _REDIS,
        "asyncio.connection": _REDIS,
        "asyncio.client": _REDIS,
        "asyncio.streams": _REDIS,
        "_parsers.": _REDIS,
        "ingest.": "carry along",
        "aiohttp.": "HTTP",
        "asyncio.": "event loop",
    },
    Role.WRITER: {
        "storage.batch_store": "commit",
        "asyncpg.": "commit",
        "storage.": "queue read",
        "redis.": "queue read",
        "commands.": "queue read",
        "asyncio.connection": "queue read",
        "asyncio.client": "queue read",
        "asyncio.streams": "queue read",
        "_parsers.": "queue read",
        "asyncio.": "event loop",
    },
}
"""What is done where: beginnings of function names, the first that fits counts."""
WRITTEN_WITHIN_S: Final = 120.0
STOP_WITHIN_S: Final = 60.0


def main(
    seconds: Annotated[float, typer.Option(min=1, help="How long the receiver is under load.")] = 10.0,
    events: Annotated[
        int, typer.Option(min=100, help="Postbacks prepared; the load ends when they are used up.")
    ] = 150_000,
    connections: Annotated[int, typer.Option(min=1, help="wrk's.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the postbacks.")] = 1,
    data_dir: Annotated[Path | None, typer.Option(help="Where the engines' data goes: on a disk.")] = None,
    out: Annotated[Path, typer.Option(help="Where the drawings go.")] = OUT,
) -> None:
    """Profile a receiver under load, then a writer that drains what the receiver queued."""
    out.mkdir(parents=True, exist_ok=True)
    try:
        with short_lived_folder(data_dir) as folder:
            asyncio.run(_profile(folder, out, seconds, events, connections, seed))
    except LoadError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None


async def _profile(folder: Path, out: Path, seconds: float, events: int, connections: int, seed: int) -> None:
    prepared = prepare(folder, seed, events, time.time_ns() // 1_000_000)
    apart, _ = layouts()
    async with platform(folder / "engines") as engines:
        engines.move(apart.others)
        await engines.register(prepared.clicks)
        await engines.reset(prepared.clicks)
        with on_cores(apart.server):
            receiver = _sampled(folder, engines, Role.RECEIVER)
        async with receiver as (port, pid):
            before = cpu_s(pid)
            load = await send(prepared.counted, port, connections=connections, seconds=seconds, cores=apart.others)
            cpu = cpu_s(pid) - before
        _report(out, Role.RECEIVER, folder / "receiver.json", load.answered, cpu)
        queued = await engines.backlog()
        async with _sampled(folder, engines, Role.WRITER) as (_, pid):
            before = cpu_s(pid)
            await engines.until_written(WRITTEN_WITHIN_S)
            cpu = cpu_s(pid) - before
        _report(out, Role.WRITER, folder / "writer.json", queued, cpu)


@asynccontextmanager
async def _sampled(folder: Path, engines: Platform, role: Role) -> AsyncIterator[tuple[int, int]]:
    """A worker that samples itself: its port and process id. Its file is there at the end."""
    port = free_port()
    config = Config(data_dir=str(folder))
    orders = Orders(role, 0, config, engines.urls.redis_url, engines.urls.postgres_dsn, port)
    metrics = folder / f"metrics-{role}"
    metrics.mkdir()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.sampled", str(folder / f"{role}.json")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(metrics)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(encode_orders(orders))
    try:
        while (line := await process.stdout.readline()) != b"ready\n":
            if not line:
                raise LoadError(f"the {role} ended with {await process.wait()} before it was ready; see above")
        yield port, process.pid
    finally:
        process.stdin.close()  # the worker takes that as SIGTERM
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()


def _report(out: Path, role: Role, path: Path, events: int, cpu: float) -> None:
    stacks: Mapping[str, int] = orjson.loads(path.read_bytes())
    (out / f"{role}-flame.svg").write_text(flame_graph(f"{role} under load", stacks), encoding="utf-8")
    us = cpu / max(1, events) * 1e6
    total = sum(stacks.values())
    own, with_below = by_function(stacks)
    lines = [f"{role}: {events} events, {us:.1f} us of processor time each, {total} samples", ""]
    for title, counts in (
        ("by part of the work", by_part(stacks, _PARTS[role])),
        ("in the function itself, with the C code it calls", own),
        ("with all below", with_below),
    ):
        lines += [title]
        lines += [
            f"  {count / total:6.1%} {count / total * us:7.2f} us  {name}" for name, count in counts.most_common(TOP)
        ]
        lines += [""]
    text = "\n".join(lines)
    (out / f"{role}-profile.txt").write_text(text, encoding="utf-8")
    typer.echo(text)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
