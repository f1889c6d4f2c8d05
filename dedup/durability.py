"""What a write to Redis has been through before it is answered, and how that is asked."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

from redis.exceptions import RedisError

from dedup.cluster import Command
from dedup.scripts import Client, Script, run_together
from dedup.wire import Wire


class Durability(StrEnum):
    """What an accepted claim has been through: in Redis' memory and log, that log on disk, on a replica too."""

    WRITTEN = "written"
    FSYNCED = "fsynced"
    REPLICATED = "replicated"


CONFIRM_MS: Final = {Durability.WRITTEN: 0, Durability.FSYNCED: 1_500, Durability.REPLICATED: 500}
"""How long a claim may take until it is confirmed. Some fsync once a second."""


def time_limit_s(durability: Durability) -> float:
    """How long the client must wait for a reply at least, so that Redis gives up first."""
    return max(1.0, CONFIRM_MS[durability] / 1_000 + 0.5)


def confirmation(durability: Durability, timeout_ms: int) -> Command:
    """The command that waits until what its connection wrote is as durable as that; not for WRITTEN."""
    if durability is Durability.FSYNCED:
        return "WAITAOF", 1, 0, timeout_ms
    return "WAIT", 1, timeout_ms


def is_confirmed(reply: Any) -> bool:
    """Of WAIT: how many replicas; of WAITAOF: [disks of its own, disks of replicas]."""
    count: int = reply[0] if isinstance(reply, list) else reply
    return count >= 1


async def run_confirmed(
    client: Client,
    script: Script,
    keys: list[bytes],
    args: Sequence[Any],
    durability: Durability,
    timeout_ms: int,
    quick: Client | Wire | None = None,
) -> Any:
    """What the script returns once its writes are as durable as that. Raises RedisError where they are not in time.
    `quick`: another way to the same server, where nothing has to be confirmed."""
    if durability is Durability.WRITTEN:
        return await script.run(quick or client, keys, args)
    # WAITAOF and WAIT speak of the writes of their own connection.
    commands = [script.whole(keys, args), confirmation(durability, timeout_ms)]
    returned, reached = await run_together(client, keys[0], commands)
    if not is_confirmed(reached):
        raise RedisError(f"not {durability.value} within {timeout_ms} ms")
    return returned
