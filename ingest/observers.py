"""What recorder and writer report, as metrics and log lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog

from ingest.catalog import CapAction
from ingest.logs import said
from ingest.metrics import Metrics
from ingest.outcome import AWAY, Outcome
from storage.batch_store import BatchCounts
from storage.queue import Entry

log = structlog.get_logger()


class RecorderMetrics:
    """See `ingest.recorder.RecorderObserver`. One increment for each outcome met in a batch, not for each postback."""

    def __init__(self, metrics: Metrics) -> None:
        self._outcomes = metrics.counter("postback_outcomes")
        self._seconds = metrics.histogram("postback_record_seconds")
        self._batch = metrics.histogram("postback_record_batch")

    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """Count a batch."""
        decided = Counter((outcome.result, outcome.reason) for outcome in outcomes if outcome is not AWAY)
        for (result, reason), count in decided.items():
            self._outcomes.labels(result.value, reason.value if reason else "").inc(count)
        self._seconds.observe(seconds)
        self._batch.observe(len(outcomes))


class IntakeMetrics:
    """See `ingest.intake.IntakeObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._received = metrics.counter("postback_received")
        self._in_flight = metrics.gauge("postback_in_flight")
        self._refused = metrics.counter("postback_refused")
        self._spooled = metrics.counter("postback_spooled")
        self._drained = metrics.counter("postback_drained")
        self._bytes = metrics.gauge("postback_spool_bytes")

    def received(self, count: int) -> None:
        """Postbacks came in."""
        self._received.inc(count)
        self._in_flight.inc(count)

    def answered(self, count: int) -> None:
        """They have their outcomes."""
        self._in_flight.dec(count)

    def refused(self, count: int) -> None:
        """Postbacks are stored nowhere."""
        self._refused.inc(count)

    def spooled(self, count: int) -> None:
        """Postbacks are in the spool."""
        self._spooled.inc(count)

    def drained(self, outcomes: Sequence[Outcome]) -> None:
        """Postbacks of the spool have outcomes."""
        self._drained.inc(len(outcomes))

    def spool_bytes(self, size: int) -> None:
        """What the spool takes."""
        self._bytes.set(size)


class UnparkingMetrics:
    """See `ingest.unparking.UnparkingObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._parked = metrics.gauge("postback_parked")
        self._unparked = metrics.counter("postback_unparked")
        self._expired = metrics.counter("postback_park_expired")

    def parked(self, count: int) -> None:
        """So many are parked now."""
        self._parked.set(count)

    def unparked(self, count: int) -> None:
        """They were recorded."""
        self._unparked.inc(count)

    def expired(self, count: int) -> None:
        """They are in the log."""
        self._expired.inc(count)


class CapMetrics:
    """See `ingest.cap_gate.CapObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._over = metrics.counter("postback_over_cap")
        self._unknown = metrics.counter("postback_caps_unknown")

    def over_cap(self, action: CapAction) -> None:
        """A conversion is over a cap."""
        self._over.labels(action.value).inc()

    def unknown(self, count: int) -> None:
        """Postbacks wait for counters."""
        self._unknown.inc(count)


class WriterMetrics:
    """See `storage.writer.WriterObserver`."""

    def __init__(self, metrics: Metrics) -> None:
        self._rows = metrics.counter("postback_rows")
        self._stored = metrics.counter("postback_stored")
        self._seconds = metrics.histogram("postback_commit_seconds")
        self._age = metrics.histogram("postback_commit_age_seconds")
        self._batch = metrics.histogram("postback_commit_batch")
        self._retries = metrics.counter("postback_writer_retries")

    def committed(
        self, partition: int, entries: Sequence[Entry], counts: BatchCounts, *, seconds: float, oldest_age_s: float
    ) -> None:
        """A batch is in Postgres."""
        self._stored.inc(counts.read)
        self._rows.labels("new").inc(counts.new)
        self._rows.labels("present").inc(counts.present)
        self._rows.labels("logged").inc(counts.logged)
        self._rows.labels("parked").inc(counts.parked)
        self._seconds.observe(seconds)
        self._age.observe(oldest_age_s)
        self._batch.observe(counts.read)
        log.debug(
            "batch committed",
            partition=partition,
            entries=len(entries),
            new=counts.new,
            present=counts.present,
            logged=counts.logged,
        )

    def retried(self, partition: int, doing: str, error: Exception, *, delay_s: float) -> None:
        """An engine failed; the batch waits."""
        self._retries.labels(doing).inc()
        log.warning(
            "writer waits for an engine", partition=partition, doing=doing, error=said(error), again_in_s=delay_s
        )

    def dead_letter(self, partition: int, entry: Entry, error: str) -> None:
        """A row is in dead_letters: a person must look at it."""
        self._rows.labels("dead").inc()
        log.error(
            "row refused by Postgres, kept in dead_letters", partition=partition, entry=entry.id.decode(), error=error
        )
