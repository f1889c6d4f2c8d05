"""`postback status --watch`: what two scrapes come to, and how it is shown."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from uuid import UUID

import pytest
from rich.console import Console

from ingest.commands.figures import Figures, read_scrape
from ingest.commands.status import PartitionStatus, ServerStatus, Status
from ingest.commands.watch import Moment, view
from ingest.metrics import METRICS, Kind, Metrics
from storage.activity import PostbackEntry


def _texts(accepted: int, *, restarted: bool = False) -> list[str]:
    """A receiver's and a writer's metrics, after so many accepted postbacks."""
    receiver, writer = Metrics(), Metrics()
    receiver.counter("postback_received").inc(accepted + 30)
    outcomes = receiver.counter("postback_outcomes")
    outcomes.labels("accepted", "").inc(accepted)
    outcomes.labels("duplicate", "").inc(0 if restarted else accepted / 10)
    outcomes.labels("rejected", "unknown_click").inc(12)
    outcomes.labels("rejected", "invalid_token").inc(accepted / 20)
    for _ in range(accepted):
        receiver.histogram("postback_record_seconds").observe(0.003)
    for _ in range(accepted // 100):
        writer.histogram("postback_commit_seconds").observe(60)
    receiver.gauge("postback_spool_bytes").set(3 << 20)
    receiver.counter("postback_spooled").inc(accepted / 50)
    receiver.counter("postback_caps_unknown").inc(accepted / 200)
    writer.gauge("postback_outbound_waiting").set(1_234)
    return [metrics.render().decode() for metrics in (receiver, writer)]


def _figures(before: int = 1_000, after: int = 2_000, *, restarted: bool = False) -> Figures:
    return Figures(read_scrape(100.0, _texts(before)), read_scrape(104.0, _texts(after, restarted=restarted)))


def test_rates_are_of_the_time_between() -> None:
    figures = _figures()
    assert figures.rate("postback_received_total") == 250
    assert figures.rates_by("postback_outcomes_total", "outcome") == {
        "accepted": 250, "duplicate": 25, "rejected": 12.5,
    }  # fmt: skip
    assert figures.level("postback_spool_bytes") == 3 << 20
    assert figures.rate("postback_nothing_such") == figures.level("postback_nothing_such") == 0


def test_a_process_that_began_anew_is_counted_from_nothing() -> None:
    figures = _figures(2_000, 400)
    assert figures.rate("postback_received_total") == 430 / 4
    assert figures.quantile("postback_record_seconds", 0.5) is not None


def test_quantiles_are_within_their_buckets() -> None:
    figures = _figures()
    assert figures.quantile("postback_record_seconds", 0.5) == pytest.approx(0.00375)
    assert figures.quantile("postback_record_seconds", 0.99) == pytest.approx(0.0025 + 0.0025 * 0.99)
    assert figures.quantile("postback_commit_seconds", 0.5) == 10, "beyond the last bound"
    assert figures.quantile("postback_outbound_seconds", 0.5) is None
    assert _figures(1_000, 1_000).quantile("postback_record_seconds", 0.5) is None


def _shown(moment: Moment) -> str:
    out = io.StringIO()
    Console(file=out, width=140, markup=False, highlight=False, emoji=False).print(view(moment))
    return out.getvalue()


def _status() -> Status:
    return Status(
        servers=[ServerStatus("all", "http://127.0.0.1:8080", 7, None)],
        redis_problem=None,
        postgres_problem=None,
        queue=[PartitionStatus(0, 1_200, 300, 4.25), PartitionStatus(1, 34, 0, 0.5), PartitionStatus(2, 0, 0)],
    )


def test_a_view_has_all_of_it_in_lines() -> None:
    entry = PostbackEntry(
        UUID(int=1), datetime(2026, 11, 23, 12, 30, 1, tzinfo=UTC), "rejected", "unknown_click", None, None, "Shop [1]",
        "click\x1b[31m", "purchase", None, None, None, None, None, None,
    )  # fmt: skip
    said = _shown(Moment(_status(), _figures(), [entry]))
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert "state ready" in lines
    assert "250.0 250.0 25.0 0.0 12.5" in lines
    assert "recorded in 3.8 ms 4.8 ms 5.0 ms" in lines
    assert "committed in 10.0 s 10.0 s 10.0 s" in lines
    assert "sent to publishers in - - -" in lines
    assert "backlog 1,234, the oldest for 4.2 s" in lines
    assert "spool 3.0 MiB, 5.0 in and 0.0 out a second" in lines
    assert "caps unknown 1.2 a second" in lines
    assert "outbound waiting 1,234" in lines
    assert r"2026-11-23 12:30:01 unknown_click Shop [1] click\x1b[31m purchase" in lines


def test_a_view_without_a_server_says_what_is_missing() -> None:
    said = _shown(Moment(Status(), None, None))
    assert "not ready" in said
    assert "no server answers: start it with `postback serve`" in said
    assert "rejected" not in said


def test_what_is_shown_is_in_the_list_of_metrics() -> None:
    names = {f"{metric.name}_total" if metric.kind is Kind.COUNTER else metric.name for metric in METRICS}
    asked: set[str] = set()

    class Asked(Figures):
        __slots__ = ()

        def rate(self, name: str) -> float:
            asked.add(name)
            return 0.0

        def rates_by(self, name: str, label: str) -> dict[str, float]:
            asked.add(name)
            return {}

        def level(self, name: str) -> float:
            asked.add(name)
            return 0.0

        def quantile(self, name: str, share: float) -> float | None:
            asked.add(name)
            return None

    figures = _figures(1, 1)
    _shown(Moment(_status(), Asked(figures.before, figures.after), []))
    assert asked
    assert asked <= names
