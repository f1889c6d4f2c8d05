"""A worker process: `python -m ingest.worker`. Its orders come as one JSON line on standard input.

The supervisor holds the other end of that pipe: its end of file means that the supervisor is gone, and is taken as
SIGTERM. `ready` on standard output says that the worker works, and `alive` once a second that it still does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from contextlib import suppress
from typing import Final

import uvloop

from ingest.app import run_receiver, run_writer
from ingest.logs import configure_logging
from ingest.orders import Orders, Role, decode_orders

ALIVE_EVERY_S: Final = 1.0


async def _work(orders: Orders) -> None:
    run = run_receiver if orders.role is Role.RECEIVER else run_writer
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), _supervisor_gone, loop, stop)
    gc.collect()
    gc.freeze()  # What is loaded by now stays: no need to look at it at each collection.
    os.set_blocking(sys.stdout.fileno(), False)
    telling = asyncio.create_task(_tell_alive())
    await run(orders, stop, lambda: _tell(b"ready\n"))
    telling.cancel()


def _supervisor_gone(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        loop.remove_reader(sys.stdin.fileno())
        stop.set()


async def _tell_alive() -> None:
    while True:
        await asyncio.sleep(ALIVE_EVERY_S)
        _tell(b"alive\n")


def _tell(line: bytes) -> None:
    with suppress(OSError):  # a supervisor that is stopped does not read, one that is gone shows on standard input
        os.write(sys.stdout.fileno(), line)


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
    orders = decode_orders(line)
    configure_logging(orders.config.log, role=f"{orders.role}-{orders.index}")
    uvloop.run(_work(orders))


if __name__ == "__main__":
    main()
