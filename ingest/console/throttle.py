"""A limit on failed logins of each address. Pure."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Final

FAILURES: Final = 10
"""That an address may have before it has to wait."""
FORGET_S: Final = 60.0
"""After how long one failure is forgotten."""
MAX_ADDRESSES: Final = 10_000


class LoginThrottle:
    """Each failure puts an address FORGET_S further from now; at FAILURES of them it waits. `clock`: seconds that never
    go back. The oldest is forgotten where there are too many: keys are too long to be guessed anyway."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until_s: dict[str, float] = {}

    def wait_s(self, address: str) -> int:
        """How long until the next try; 0: now."""
        ahead_s = self._until_s.get(address, 0.0) - self._clock()
        return max(0, ceil(ahead_s - (FAILURES - 1) * FORGET_S))

    def failed(self, address: str) -> None:
        """A key was wrong."""
        now_s = self._clock()
        until_s = max(self._until_s.pop(address, now_s), now_s)
        if len(self._until_s) >= MAX_ADDRESSES:
            self._until_s.pop(next(iter(self._until_s)))
        self._until_s[address] = until_s + FORGET_S
