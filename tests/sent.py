"""What was read, in one form for comparing."""

from collections.abc import Sequence

from ingest.wire import Fault, Pairs, Sent, pairs_of


def listed(items: Sequence[Sent | Fault]) -> list[Pairs | Fault]:
    """The items of a bulk body as pairs."""
    return [item if isinstance(item, Fault) else pairs_of(item) for item in items]
