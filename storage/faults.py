"""Whose fault an error of Redis or Postgres is: decided here and nowhere else."""

from __future__ import annotations

from enum import Enum
from typing import Final

from redis.exceptions import RedisError

from storage.postgres import AWAY, PostgresError

_DATA_CLASSES = frozenset({"22", "23", "54"})
"""SQLSTATE classes that a row brings upon itself: data exception, integrity constraint, program limit (a key too long
for its index, JSON too deep). https://www.postgresql.org/docs/current/errcodes-appendix.html"""
_CHECK_VIOLATION = "23514"
_AWAY: Final[tuple[type[Exception], ...]] = (RedisError, *AWAY)


class Fault(Enum):
    """What to do about it."""

    TRANSIENT = "transient"
    """The same again succeeds later: once the server is back, the deadlock over, the schema migrated."""
    DATA = "data"
    """The same again fails again: some row is refused for what it holds."""
    PARTITION = "partition"
    """A row's month has no partition yet."""


class MalformedError(ValueError):
    """An entry that does not make exactly one row; the same again fails again."""


def classify(error: Exception) -> Fault | None:
    """Whose fault it is; None for an error that neither server gave: a defect of ours, to be raised."""
    if isinstance(error, MalformedError):
        return Fault.DATA
    if isinstance(error, PostgresError):
        code: str = getattr(error, "sqlstate", None) or ""
        if code == _CHECK_VIOLATION and getattr(error, "constraint_name", None) is None:
            return Fault.PARTITION  # a CHECK that is broken has a name
        return Fault.DATA if code[:2] in _DATA_CLASSES else Fault.TRANSIENT
    return Fault.TRANSIENT if isinstance(error, _AWAY) else None


def is_transient(error: Exception) -> bool:
    """Whether to try the same again."""
    return classify(error) is Fault.TRANSIENT
