"""Plain postbacks: what decides them ahead of the rules in this package, where anything does. Pure.

A postback is plain if nothing in it needs a second look. `ingest.compiled` says of it what `ingest.reading`,
`ingest.decide` and `storage.records` say, byte for byte, and leaves all others to them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from dedup.port import Entry, Verdict
from ingest.arrival import Waiting
from ingest.catalog import Snapshot
from ingest.compiled import is_built
from ingest.decide import Rules
from ingest.outcome import AWAY, Outcome


class Sheet(Protocol):
    """A batch of which some may be plain."""

    @property
    def click_ids(self) -> Sequence[str | None]:
        """The click that each is about; None: it is not plain."""

    @property
    def rest(self) -> Sequence[int]:
        """The places of all that is left to the rules: what is not plain and, once that is known, no conversion."""

    def decide(self, packed: Mapping[str, bytes | None]) -> list[Entry | None]:
        """The conversions among them, by place, once their clicks are known; None where something else is left."""

    def outcomes(self, verdicts: Sequence[Verdict]) -> list[Outcome]:
        """What is answered to those that were decided, by place, once the queue has, or has not, taken them. Anything
        for the rest."""


class Plain(Protocol):
    """Reads and decides plain postbacks under one snapshot of the catalog."""

    def read(self, arrivals: Sequence[Waiting]) -> Sheet:
        """What of a batch is plain."""


MakePlain = Callable[[Snapshot, Rules], Plain]


class NothingPlain:
    """See Plain: all is left to the rules."""

    def __init__(self, snapshot: Snapshot, rules: Rules) -> None:
        """Whatever the catalog says."""

    def read(self, arrivals: Sequence[Waiting]) -> Sheet:
        """See Plain."""
        return _NoSheet(len(arrivals))


class _NoSheet:
    def __init__(self, count: int) -> None:
        self.click_ids: Sequence[str | None] = ()
        self.rest = range(count)

    def decide(self, packed: Mapping[str, bytes | None]) -> list[Entry | None]:  # noqa: ARG002  see Sheet
        return [None] * len(self.rest)

    def outcomes(self, verdicts: Sequence[Verdict]) -> list[Outcome]:
        return [AWAY] * len(verdicts)


def plain_maker() -> MakePlain:
    """Compiled code, where it was built; else nothing is plain."""
    if not is_built():
        return NothingPlain
    from ingest.plans import make_plain  # noqa: PLC0415  it may not be there

    return make_plain
