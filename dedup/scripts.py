"""The Lua scripts, loaded from files and run by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from dedup.cluster import ClusterClient, Command
from dedup.wire import Wire

_FOLDER: Final = Path(__file__).parent / "lua"
Client = Redis | ClusterClient
CLIENT_ERRORS: Final = (RedisError, OSError)
"""What a client raises when Redis is away or refuses."""


@dataclass(frozen=True, slots=True)
class Script:
    """One operation: its source and the hash that Redis knows it by."""

    source: str
    sha: str

    @classmethod
    def load(cls, name: str) -> Script:
        """The script of lua/<name>.lua."""
        source = (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        return cls(source, sha1(source.encode(), usedforsecurity=False).hexdigest())

    async def run(self, client: Client | Wire, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        """Run it on the node that holds the keys. A server that does not know it (new, restarted or failed over) is
        sent the source, once: nothing had run, so the whole call may be sent again."""
        try:
            return await client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.execute_command(*self.whole(keys, args))

    def whole(self, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Command:
        """The command with the source in it, for where a missing script could not be sent again."""
        return "EVAL", self.source, len(keys), *keys, *args


async def run_together(client: Client, key: bytes, commands: Sequence[Command]) -> list[Any]:
    """Run commands in order on one connection to the node that holds the key; their replies, or the first error."""
    if isinstance(client, ClusterClient):
        return await client.together(key, commands)
    async with client.pipeline(transaction=False) as pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        replies: list[Any] = await pipeline.execute()
        return replies


async def ask_primaries(client: Client, command: Command) -> list[Any]:
    """The reply of each primary to a command without keys. Raises unless all answer."""
    if isinstance(client, ClusterClient):
        return await client.on_primaries(command)
    try:
        return [await client.execute_command(*command)]  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    except ResponseError:
        # It may be a replica by now, and another server the primary at this address.
        await client.connection_pool.disconnect(inuse_connections=False)
        raise
