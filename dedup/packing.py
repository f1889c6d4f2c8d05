"""Commands packed by hiredis in C: a claim of many entries has hundreds of arguments, at 1 us each in Python."""

from __future__ import annotations

from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection


class _PackedConnection(AbstractConnection):
    """redis-py's asyncio connection packs in Python; its threaded one does as here."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """See redis-py. A command of two words is two arguments."""
        name = args[0]
        if isinstance(name, str) and " " in name:
            args = (*name.split(), *args[1:])
        return [hiredis.pack_command(args)]


class _PackedTcp(_PackedConnection, Connection):
    pass


class _PackedTls(_PackedConnection, SSLConnection):
    pass


class _PackedUnix(_PackedConnection, UnixDomainSocketConnection):
    pass


_PACKED: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: _PackedTcp,
    SSLConnection: _PackedTls,
    UnixDomainSocketConnection: _PackedUnix,
}


def with_packing(client: Redis) -> Redis:
    """The client, with connections that pack in C; it must not have been used yet."""
    pool = client.connection_pool
    pool.connection_class = _PACKED.get(pool.connection_class, pool.connection_class)
    return client
