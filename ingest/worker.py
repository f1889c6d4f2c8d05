"""A worker process: `python -m ingest.worker`. Its orders come as one JSON line on standard input.

The supervisor holds the other end of that pipe: its end of file means that the supervisor is gone, and is taken as
SIGTERM. `ready` on standard output says that the worker works.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum

import msgspec
import uvloop

from ingest.config import Config, config_from_json, config_to_json


class Role(StrEnum):
    """What a worker does."""

    RECEIVER = "receiver"
    WRITER = "writer"


class Orders(msgspec.Struct, frozen=True):
    """What a worker needs to know. `config` as `config_to_json` makes it; the URLs are those of the running engines."""

    role: Role
    index: int
    config: str
    redis_url: str
    postgres_dsn: str
    port: int


def encode_orders(role: Role, index: int, config: Config, redis_url: str, postgres_dsn: str, port: int) -> bytes:
    """The line for the worker's standard input."""
    orders = Orders(role, index, config_to_json(config), redis_url, postgres_dsn, port)
    return msgspec.json.encode(orders) + b"\n"


async def _work(orders: Orders, config: Config) -> None:
    # Imported here: each role pays only for what it uses.
    run: Callable[[Orders, Config, asyncio.Event, Callable[[], None]], Awaitable[None]]
    if orders.role is Role.RECEIVER:
        from ingest.app import run_receiver as run
    else:
        from ingest.app import run_writer as run
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), _supervisor_gone, loop, stop)
    gc.collect()
    gc.freeze()  # What is loaded by now stays: no need to look at it at each collection.
    await run(orders, config, stop, _say_ready)


def _supervisor_gone(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


def _say_ready() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()


def _read_line() -> bytes:
    """One line, byte by byte: what follows stays in the pipe for the event loop."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            break
        line += byte
    return bytes(line)


def main() -> None:
    """Read the orders and work until told to stop."""
    line = _read_line()
    if not line:
        return
    orders = msgspec.json.decode(line, type=Orders)
    config = config_from_json(orders.config)

    from ingest.logs import configure_logging

    configure_logging(config.log, role=f"{orders.role}-{orders.index}")
    uvloop.run(_work(orders, config))


if __name__ == "__main__":
    main()
