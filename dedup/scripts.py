"""The Lua scripts, loaded from files and run by hash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.cluster import ClusterPipeline, RedisCluster
from redis.exceptions import NoScriptError

_FOLDER: Final = Path(__file__).parent / "lua"
Client = Redis | RedisCluster


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

    async def run(self, client: Client, keys: Sequence[bytes], args: Sequence[bytes | int]) -> Any:
        """Run it on the node that holds the keys. A server that does not know it (new, restarted or failed over) is
        sent the source, once: nothing had run, so the whole call may be sent again."""
        try:
            return await client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return await client.execute_command("EVAL", self.source, len(keys), *keys, *args)

    def queue(self, pipeline: Pipeline | ClusterPipeline, keys: Sequence[bytes], args: Sequence[bytes | int]) -> None:
        """Put it into a pipeline whole: inside one, a missing script could not be sent again."""
        pipeline.execute_command("EVAL", self.source, len(keys), *keys, *args)
