"""How much each host is asked at once, and when it is left alone: a circuit breaker for each. Pure: takes the time.

Closed until so many attempts in a row have failed; open while it rests, each time longer; then one attempt decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OPENS_AFTER: Final = 10
"""Failures in a row."""
FIRST_REST_S: Final = 2.0
LONGEST_REST_S: Final = 120.0


@dataclass(slots=True)
class _Host:
    in_flight: int = 0
    failures: int = 0
    rests: int = 0
    rest_until_s: float | None = None


class Hosts:
    """Of one process. Holds only hosts that are being called or that have failed: no more than templates name."""

    def __init__(
        self,
        each: int,
        *,
        opens_after: int = OPENS_AFTER,
        first_rest_s: float = FIRST_REST_S,
        longest_rest_s: float = LONGEST_REST_S,
    ) -> None:
        self._each = each
        self._opens_after = opens_after
        self._first_rest_s = first_rest_s
        self._longest_rest_s = longest_rest_s
        self._hosts: dict[str, _Host] = {}

    def room(self, now_s: float) -> dict[str, int]:
        """How many more may be sent, for each host that may not have the full number."""
        return {name: self._room_of(host, now_s) for name, host in self._hosts.items()}

    def resting(self) -> list[str]:
        """The hosts whose breakers are open, or half open."""
        return [name for name, host in self._hosts.items() if host.rest_until_s is not None]

    def _room_of(self, host: _Host, now_s: float) -> int:
        if host.rest_until_s is None:
            return max(0, self._each - host.in_flight)
        return 1 if now_s >= host.rest_until_s and not host.in_flight else 0

    def started(self, name: str) -> None:
        """An attempt begins."""
        self._hosts.setdefault(name, _Host()).in_flight += 1

    def finished(self, name: str, now_s: float, *, is_well: bool, chance: float) -> None:
        """It has ended. `is_well`: the host works, whatever it said. `chance` (0 to 1) takes up to half of a rest."""
        host = self._hosts[name]
        host.in_flight -= 1
        if is_well:
            host.failures = host.rests = 0
            host.rest_until_s = None
            if not host.in_flight:
                del self._hosts[name]
            return
        host.failures += 1
        # What was under way when it opened says nothing new: only the attempt after the rest makes the next one longer.
        is_first = host.rest_until_s is None and host.failures >= self._opens_after
        is_probe = host.rest_until_s is not None and now_s >= host.rest_until_s
        if is_first or is_probe:
            longest_s = min(self._longest_rest_s, self._first_rest_s * (1 << min(host.rests, 30)))
            host.rest_until_s = now_s + longest_s * (1 - chance / 2)
            host.rests += 1
