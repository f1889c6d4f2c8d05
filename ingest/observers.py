"""What recorder and writer report, as metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ingest.metrics import Metrics
from ingest.outcome import Outcome


class RecorderMetrics:
    """See `ingest.recorder.RecorderObserver`. One increment for each outcome met in a batch, not for each postback."""

    def __init__(self, metrics: Metrics) -> None:
        self._outcomes = metrics.counter("postback_outcomes")
        self._seconds = metrics.histogram("postback_record_seconds")
        self._batch = metrics.histogram("postback_record_batch")

    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count a batch."""
        for (result, reason), count in Counter((outcome.result, outcome.reason) for outcome in outcomes).items():
            self._outcomes.labels(result.value, reason.value if reason else "").inc(count)
        self._seconds.observe(seconds)
        self._batch.observe(len(outcomes))
