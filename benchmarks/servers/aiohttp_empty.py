"""aiohttp's own empty handler: one GET route, a constant answer, the request never read. uvloop, no access log.

python -m benchmarks.servers.aiohttp_empty PORT
"""

from __future__ import annotations

import sys

import uvloop
from aiohttp import web


async def _empty(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def main() -> None:
    """Serve until SIGTERM."""
    app = web.Application()
    app.router.add_get("/postback", _empty)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        access_log=None,
        print=None,
        backlog=4096,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
