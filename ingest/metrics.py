"""The metrics: one typed list, from which both the registry and the docs are made.

Each process writes its values into files of `PROMETHEUS_MULTIPROC_DIR` (set before this is imported), so that any
receiver's /metrics sums them all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_EVENTS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Kind(StrEnum):
    """What can be done with a metric's values."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric: its name without the suffix that the kind adds, its labels, and what it says."""

    name: str
    kind: Kind
    unit: str
    meaning: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    over_processes: Literal["mostrecent", "sum"] = "mostrecent"
    """Of a gauge: the latest value that any process set, or the sum; what a killed process held stays in it."""


METRICS: Final = (
    Metric("postback_received", Kind.COUNTER, "postbacks", "Postbacks read from requests."),
    Metric("postback_in_flight", Kind.GAUGE, "postbacks", "Received, no outcome yet.", over_processes="sum"),
    Metric("postback_refused", Kind.COUNTER, "postbacks", "Postbacks that neither an engine nor the spool took."),
    Metric("postback_outcomes", Kind.COUNTER, "postbacks", "Postbacks by outcome and reason.", ("outcome", "reason")),
    Metric("postback_unreadable", Kind.COUNTER, "requests", "Requests that are no postback, by status.", ("status",)),
    Metric("postback_connections_cut", Kind.COUNTER, "connections", "Connections that were cut, by cause.", ("why",)),
    Metric("postback_record_seconds", Kind.HISTOGRAM, "seconds", "From a batch's start to its answers.", (), _SECONDS),
    Metric("postback_record_batch", Kind.HISTOGRAM, "postbacks", "Postbacks in a recorded batch.", (), _EVENTS),
    Metric("postback_spooled", Kind.COUNTER, "postbacks", "Postbacks put into the local spool."),
    Metric("postback_drained", Kind.COUNTER, "postbacks", "Outcomes of postbacks from the spool."),
    Metric("postback_spool_bytes", Kind.GAUGE, "bytes", "What the local spool takes on disk."),
    Metric("postback_parked", Kind.GAUGE, "postbacks", "Postbacks that wait for their clicks."),
    Metric("postback_unparked", Kind.COUNTER, "postbacks", "Outcomes of postbacks whose clicks have come."),
    Metric("postback_park_expired", Kind.COUNTER, "postbacks", "Parked postbacks whose clicks did not come in time."),
    Metric("postback_clicks", Kind.COUNTER, "clicks", "Clicks registered over HTTP, by result.", ("result",)),
    Metric("postback_stored", Kind.COUNTER, "postbacks", "Queued postbacks stored; delivered again, they count again."),
    Metric("postback_rows", Kind.COUNTER, "rows", "What became of queued postbacks, by result.", ("result",)),
    Metric("postback_commit_seconds", Kind.HISTOGRAM, "seconds", "How long storing a batch took.", (), _SECONDS),
    Metric("postback_commit_age_seconds", Kind.HISTOGRAM, "seconds", "From queueing to commit, oldest.", (), _SECONDS),
    Metric("postback_commit_batch", Kind.HISTOGRAM, "postbacks", "Postbacks in a committed batch.", (), _EVENTS),
    Metric("postback_writer_retries", Kind.COUNTER, "attempts", "Waits for an engine, by activity.", ("doing",)),
    Metric("postback_queued", Kind.GAUGE, "postbacks", "Postbacks ever queued, as Redis has it.", ("partition",)),
    Metric("postback_backlog", Kind.GAUGE, "postbacks", "Queued postbacks not yet in Postgres.", ("partition",)),
    Metric("postback_partitions_until_seconds", Kind.GAUGE, "seconds", "Epoch time until which partitions are made."),
    Metric("postback_partitions_dropped", Kind.COUNTER, "partitions", "Months that retention dropped.", ("table",)),
    Metric("postback_clicks_deleted", Kind.COUNTER, "clicks", "Clicks that retention deleted."),
    Metric(
        "postback_advertiser_last_received_seconds",
        Kind.GAUGE,
        "seconds",
        "Epoch time of an active advertiser's latest conversion in the last week; 500 advertisers at most.",
        ("advertiser",),
    ),
    Metric("postback_over_cap", Kind.COUNTER, "postbacks", "Conversions counted over a cap, by action.", ("action",)),
    Metric("postback_caps_unknown", Kind.COUNTER, "postbacks", "Times that caps kept one undecided: unknown."),
    Metric("postback_caps_counted", Kind.COUNTER, "campaigns", "Campaigns whose caps were counted anew in rounds."),
    Metric("postback_rollup_lag_seconds", Kind.GAUGE, "seconds", "What the rollups took in last had waited so long."),
    Metric("postback_outbound_messages", Kind.COUNTER, "messages", "Messages to publishers, by event.", ("event",)),
    Metric("postback_outbound_attempts", Kind.COUNTER, "attempts", "Attempts to send one, by result.", ("result",)),
    Metric("postback_outbound_seconds", Kind.HISTOGRAM, "seconds", "How long an attempt took.", (), _SECONDS),
    Metric("postback_outbound_waiting", Kind.GAUGE, "messages", "Messages to publishers that wait."),
    Metric("postback_outbound_resting_hosts", Kind.GAUGE, "hosts", "Publishers' hosts left alone for now."),
)
"""Every metric there is."""


class Metrics:
    """The metrics of this process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            meaning = f"{metric.meaning} Unit: {metric.unit}."
            match metric.kind:
                case Kind.COUNTER:
                    self._counters[metric.name] = Counter(metric.name, meaning, metric.labels, registry=self.registry)
                case Kind.GAUGE:
                    self._gauges[metric.name] = Gauge(
                        metric.name,
                        meaning,
                        metric.labels,
                        registry=self.registry,
                        multiprocess_mode=metric.over_processes,
                    )
                case Kind.HISTOGRAM:
                    self._histograms[metric.name] = Histogram(
                        metric.name, meaning, metric.labels, registry=self.registry, buckets=metric.buckets
                    )

    def counter(self, name: str) -> Counter:
        """A counter of the list."""
        return self._counters[name]

    def gauge(self, name: str) -> Gauge:
        """A gauge of the list."""
        return self._gauges[name]

    def histogram(self, name: str) -> Histogram:
        """A histogram of the list."""
        return self._histograms[name]

    def render(self) -> bytes:
        """The text exposition, over all processes where they share a folder."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return generate_latest(shared)


def describe() -> Iterator[str]:
    """The list as a Markdown table's rows."""
    yield "| metric | kind | unit | labels | meaning |"
    yield "|---|---|---|---|---|"
    for metric in METRICS:
        suffix = "_total" if metric.kind is Kind.COUNTER else ""
        labels = ", ".join(metric.labels)
        yield f"| `{metric.name}{suffix}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |"
