"""What the sender reports, as metrics."""

from __future__ import annotations

from ingest.metrics import Metrics
from storage.outbox import Attempt, Looked


class OutboundMetrics:
    """See `ingest.outbound.sender.OutboundObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.counter("postback_outbound_attempts")
        self._seconds = metrics.histogram("postback_outbound_seconds")
        self._messages = metrics.counter("postback_outbound_messages")
        self._waiting = metrics.gauge("postback_outbound_waiting")
        self._resting = metrics.gauge("postback_outbound_resting_hosts")

    def attempted(self, attempt: Attempt) -> None:
        """One attempt has ended."""
        self._attempts.labels(attempt.error or "delivered").inc()
        self._seconds.observe(attempt.took_ms / 1000)
        if attempt.error is None:
            self._messages.labels("sent").inc()

    def looked(self, looked: Looked) -> None:
        """Messages were made or withdrawn."""
        self._messages.labels("made").inc(looked.made)
        self._messages.labels("withdrawn").inc(looked.withdrawn)

    def given_up(self, count: int) -> None:
        """Messages will not be tried again."""
        self._messages.labels("given_up").inc(count)

    def waiting(self, count: int) -> None:
        """So many wait now."""
        self._waiting.set(count)

    def resting(self, hosts: int) -> None:
        """The breakers of so many hosts are open."""
        self._resting.set(hosts)
