"""How a line's `status` says where it comes from, so that one line serves a conversion and a repeat.

Bare (`approved`): the goal implies it. It holds for a conversion that this entry makes and moves no earlier one; so
entries that were queued before statuses could move anything are read as they were meant.
"""

from __future__ import annotations

from typing import Final

GIVEN: Final = "="
"""Before a status that the sender gave: on a repeat it moves the conversion."""

HELD: Final = "held="
"""Before the hold in ms that a conversion is pending for, unless the sender says otherwise. It ends with the same
sign, so that a batch without the sign has neither."""

CAPPED: Final = "|"
"""After a status that the sender gave: the one that a conversion this entry makes is counted with all the same, for it
is over a cap. A repeat is moved by what was given."""

APPROVED: Final = "approved"
PENDING: Final = "pending"
CANCELLED: Final = "cancelled"
STATUSES: Final = frozenset({APPROVED, PENDING, CANCELLED, "rejected"})
"""Every status that a conversion can have."""


def held(hold_ms: int) -> str:
    """Pending, and approved by itself when the hold has passed; 0: pending until somebody says otherwise."""
    return f"{HELD}{hold_ms}" if hold_ms else PENDING


def capped(status: str, to: str) -> str:
    """The status of a conversion over a cap: `to`, pending or cancelled, unless the sender refuses it anyway."""
    if not status.startswith(GIVEN):
        return to
    return f"{status}{CAPPED}{to}" if status.removeprefix(GIVEN) in {APPROVED, PENDING} else status
