"""Counters of caps in Redis: room is taken for a conversion before it is claimed, and given back if it was none.

All counters of a campaign are in one hash, so in one slot of a cluster, and lost together or not at all. A counter that
is missing is unknown, not 0, unless all of its period is known to be there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from dedup.cap_types import Charge, End, Hold, Open, Standing
from dedup.cluster import ClusterClient
from dedup.durability import CONFIRM_MS, Durability, run_confirmed
from dedup.port import QueueUnavailableError
from dedup.redis import MAX_CALL
from dedup.scripts import CLIENT_ERRORS, Client, Script

HELD: Final = 0
UNKNOWN: Final = -1
UNAVAILABLE: Final = -2
MAX_CALLS: Final = 4
"""Script calls under way at once: with those of claims fewer than the client has connections."""
LOCK_MS: Final = 60_000
"""How long one who counts anew keeps others from it."""
LEASE_MS: Final = 120_000
"""How long what a postback took is remembered as its own: past any claim that is still under way."""
KEEP_MS: Final = 7 * 86_400_000
"""How long counters are kept that nobody has counted anew; without them they are unknown."""

log = structlog.get_logger()


class CapCounters:
    """The counters. `client` answers in bytes and has time limits of its own."""

    def __init__(
        self, client: Client, *, durability: Durability = Durability.WRITTEN, lease_ms: int = LEASE_MS
    ) -> None:
        self._client = client
        self._durability = durability
        self._lease_ms = lease_ms
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._reserve = Script.load("caps_reserve")
        self._settle = Script.load("caps_settle")
        self._begin = Script.load("caps_begin")
        self._finish = Script.load("caps_finish")

    async def reserve(self, holds: Sequence[Hold]) -> list[int]:
        """For each, in order: HELD; the place (from 1) of the first of its charges that would cross its limit; UNKNOWN,
        where a counter is not known; UNAVAILABLE, where Redis does not answer: it may be held or not.

        Who asks again under the same id holds what it holds, and takes no more than what is missing.
        """

        async def call(part: Sequence[Hold]) -> list[int]:
            args: list[bytes | int | str] = []
            for hold in part:
                args += (hold.postback_id, f"{hold.conversion_id} {hold.received_us}", len(hold.charges))
                for charge in hold.charges:
                    args += (charge.counter, charge.scope, charge.start_ms, charge.amount, charge.limit)
            try:
                async with self._calls:
                    # As durable as claims are: a counter that a failover sets back would let more pass.
                    found: list[int] = await run_confirmed(
                        self._client,
                        self._reserve,
                        [_key(one.campaign_id) for one in part],
                        args,
                        self._durability,
                        CONFIRM_MS[self._durability],
                    )
            except CLIENT_ERRORS as error:
                log.warning("caps cannot be asked, nothing was accepted", error=str(error))
                return [UNAVAILABLE] * len(part)
            return found

        results = [UNAVAILABLE] * len(holds)
        parts = self._parts([hold.campaign_id for hold in holds])
        for part, found in zip(
            parts, await asyncio.gather(*(call([holds[i] for i in part]) for part in parts)), strict=True
        ):
            for place, result in zip(part, found, strict=True):
                results[place] = result
        return results

    async def settle(self, ends: Sequence[tuple[Hold, End]]) -> None:
        """End holds. What cannot be told now is put right when the campaign is counted anew."""

        async def call(part: Sequence[tuple[Hold, End]]) -> None:
            args = [word for hold, end in part for word in (hold.postback_id, end.value)]
            try:
                async with self._calls:
                    await self._settle.run(self._client, [_key(hold.campaign_id) for hold, _ in part], args)
            except CLIENT_ERRORS as error:
                log.warning("caps cannot be settled, they are counted anew", error=str(error))

        parts = self._parts([hold.campaign_id for hold, _ in ends])
        await asyncio.gather(*(call([ends[i] for i in part]) for part in parts))

    async def begin(self, campaign_id: int, who: str, *, lock_ms: int = LOCK_MS) -> Standing | None:
        """Begin to count anew as `who`, a word; None while somebody else does. Nobody else may for `lock_ms`. Raises
        what CLIENT_ERRORS names."""
        reply: list[bytes] = await self._begin.run(
            self._client, [_key(campaign_id)], [who.encode(), lock_ms, self._lease_ms]
        )
        if not reply:
            return None
        counters: dict[str, int] = {}
        known: dict[str, int] = {}
        held: list[Open] = []
        for field, value in zip(reply[2::2], reply[3::2], strict=True):
            if field.startswith(b"n:"):
                counters[field[2:].decode()] = int(value)
            elif field.startswith(b"k:"):
                known[field[2:].decode()] = int(value)
            elif field.startswith(b"o:"):
                held.append(_open(value.decode()))
        now_ms = int(reply[0])
        return Standing(now_ms, now_ms - int(reply[1]), counters, known, held)

    async def finish(
        self,
        campaign_id: int,
        who: str,
        differences: Mapping[str, int],
        known: Mapping[str, int],
        *,
        gone_counters: Sequence[str] = (),
        gone_scopes: Sequence[str] = (),
    ) -> bool:
        """Add `differences` to counters, say since when scopes are `known` (epoch ms), and forget what is gone. False:
        nothing was changed, somebody else counts or Redis has lost its memory. Raises what CLIENT_ERRORS names."""
        args: list[bytes | int] = [who.encode(), KEEP_MS, len(differences)]
        for counter, difference in differences.items():
            args += (counter.encode(), difference)
        args.append(len(known))
        for scope, since_ms in known.items():
            args += (scope.encode(), since_ms)
        args += [b"n:" + counter.encode() for counter in gone_counters]
        args += [b"k:" + scope.encode() for scope in gone_scopes]
        return bool(await self._finish.run(self._client, [_key(campaign_id)], args))

    async def taken(self, campaign_id: int, charges: Sequence[Charge]) -> list[int | None]:
        """What is taken of each counter, None where it is unknown. For looking only. Raises QueueUnavailableError."""
        fields = [name for charge in charges for name in (f"n:{charge.counter}", f"k:{charge.scope}")]
        try:
            found: Sequence[bytes | str | None] = await self._client.hmget(_key(campaign_id), fields)
        except CLIENT_ERRORS as error:
            raise QueueUnavailableError(str(error)) from error
        return [
            int(taken or 0) if since is not None and charge.start_ms >= int(since) else None
            for charge, taken, since in zip(charges, found[::2], found[1::2], strict=True)
        ]

    def _parts(self, campaigns: Sequence[int]) -> list[list[int]]:
        """Places of what can go into one call: on a cluster each campaign has a slot of its own."""
        groups: dict[int, list[int]] = {}
        for place, campaign_id in enumerate(campaigns):
            groups.setdefault(campaign_id if isinstance(self._client, ClusterClient) else 0, []).append(place)
        return [
            group[start : start + MAX_CALL] for group in groups.values() for start in range(0, len(group), MAX_CALL)
        ]


def _open(value: str) -> Open:
    _, _, conversion_id, received_us, *amounts = value.split(" ")
    return Open(conversion_id, int(received_us), dict(zip(amounts[::2], map(int, amounts[1::2]), strict=True)))


def _key(campaign_id: int) -> bytes:
    return b"pb:cap:{%d}" % campaign_id
