"""Traces, into memory: which postbacks have one, what is in it, what is not, and a program without OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from uuid import UUID

import pytest
import structlog
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id, format_trace_id

from dedup.port import CachedClick, QueueUnavailableError, Verdict
from dedup.port import Entry as Claim
from ingest import tracing as module
from ingest.app import traced_of
from ingest.arrival import Arrival, Receipt, Waiting
from ingest.clicks import Click
from ingest.config import Config, TracingConfig
from ingest.orders import Orders, Role
from ingest.outcome import Outcome, Result
from ingest.reasons import Reason
from ingest.receipts import new_receipt
from ingest.traced import Traced, TracedWriter
from ingest.tracing import Sample, Tracing, first_span, open_tracing, traces_url
from storage.batch_store import BatchCounts
from storage.queue import Entry
from tests.writing import Observer

ROOT = Path(__file__).parents[2]
SECRET = "a-click-of-somebody"
OUTCOMES = [
    Outcome(Result.ACCEPTED, "01a209c6-835a-89c6-8877-7230f3461748"),
    Outcome(Result.DUPLICATE, "01a209c6-835a-89c6-8877-7230f3461748"),
    Outcome(Result.REJECTED, None, Reason.UNKNOWN_CLICK, "click_id: no such click"),
]


def _arrival(end: int) -> Arrival:
    """Received now, under an id that ends in these 56 bits."""
    receipt = new_receipt("192.0.2.7")
    return Arrival(
        Receipt(receipt.postback_id[:9] + end.to_bytes(7, "big"), receipt.received_us), [("click_id", SECRET)]
    )


def _entry(postback_id: bytes) -> Entry:
    return Entry(b"1-0", b"c1", f"{UUID(bytes=postback_id)}\t17\t{SECRET}".encode())


def _ids(span: ReadableSpan) -> bytes:
    """The postback whose first span it is."""
    assert span.context.span_id == span.context.trace_id % (1 << 64)
    trace_id: int = span.context.trace_id
    return trace_id.to_bytes(16, "big")


class World:
    """A tracing, into memory unless one is given, and engines that answer what they are told."""

    def __init__(self, ratio: float, tracing: Tracing | None = None) -> None:
        self.memory = InMemorySpanExporter()
        into_memory = Tracing(SimpleSpanProcessor(self.memory), ratio=ratio, resource={"service.name": "p"})
        self.tracing = tracing or into_memory
        self.traced = Traced(self.tracing)
        self.port = self.traced.deduplicator(self)
        self.look_up = self.traced.lookup(self._look_up)
        self.record = self.traced.record(self._record)
        self.verdict = Verdict.ACCEPTED
        self.error: Exception | None = None

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        if self.error is not None:
            raise self.error
        return [None] * len(click_ids)

    async def cache(self, clicks: Sequence[CachedClick]) -> None: ...

    async def claim(self, entries: Sequence[Claim]) -> list[Verdict]:
        return [self.verdict] * len(entries)

    async def _look_up(self, click_ids: Sequence[str]) -> dict[str, Click]:
        return {}

    async def _record(self, arrivals: Sequence[Waiting]) -> list[Outcome]:
        """As the recorder does it."""
        await self.port.clicks([SECRET] * len(arrivals))
        await asyncio.create_task(_of(self.look_up([SECRET])))
        await self.port.cache([])
        await self.port.claim([Claim(SECRET, b"", b"", 0, b"c1", b"")] * len(arrivals))
        return OUTCOMES[: len(arrivals)]

    def spans(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.memory.get_finished_spans() if span.name == name]


async def _of(waited: object) -> None:
    await waited  # type: ignore[misc]  # whatever it gives


# Which ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1e-18, 0.001, 0.3, 0.5, 1.0])
def test_receivers_and_writers_choose_the_same_postbacks(ratio: float) -> None:
    random, sample = Random(7), Sample(ratio)
    arrivals = [_arrival(random.getrandbits(56)) for _ in range(4000)]
    ids = [arrival.receipt.postback_id for arrival in arrivals]
    chosen = [ids[place] for place in sample.places(arrivals)]
    assert list(sample.queued([_entry(one) for one in ids])) == [first_span(one) for one in chosen]
    assert len(chosen) == pytest.approx(ratio * len(ids), abs=120)
    assert (len(chosen) == len(ids)) == (ratio == 1)


def test_a_larger_sample_holds_the_smaller_one() -> None:
    arrivals = [_arrival(Random(3).getrandbits(56) + number) for number in range(0, 1 << 54, 1 << 45)]
    assert set(Sample(0.1).places(arrivals)) <= set(Sample(0.2).places(arrivals))


def test_a_trace_bears_the_id_of_its_postback() -> None:
    postback_id = new_receipt(None).postback_id
    context = first_span(postback_id)
    assert format_trace_id(context.trace_id) == postback_id.hex()
    assert format_span_id(context.span_id) == postback_id.hex()[16:]
    assert context.is_valid
    assert context.trace_flags.sampled


# Receivers --------------------------------------------------------------------------------------------------------


async def test_a_batch_stands_below_its_first_sampled_postback() -> None:
    world = World(0.5)
    arrivals = [_arrival(0), _arrival((1 << 56) - 1), _arrival(1 << 55)]
    assert await world.record(arrivals) == OUTCOMES
    first, second = world.spans("postback")
    (batch,) = world.spans("record")
    assert [_ids(first), _ids(second)] == [arrivals[1].receipt.postback_id, arrivals[2].receipt.postback_id]
    assert first.parent is None
    assert batch.parent == first.context
    assert [link.context for link in second.links] == [batch.context], "from one trace one finds the other"
    assert first.start_time == arrivals[1].receipt.received_us * 1000
    assert dict(batch.attributes or {}) == {
        "postback.count": 3,
        "postback.accepted": 1,
        "postback.duplicate": 1,
        "postback.rejected": 1,
    }
    assert dict(first.attributes or {}) == {
        "postback.result": "duplicate",
        "postback.conversion_id": "01a209c6-835a-89c6-8877-7230f3461748",
    }
    assert dict(second.attributes or {}) == {"postback.result": "rejected", "postback.reason": "unknown_click"}
    for name, system, count in (("clicks", "redis", 3), ("lookup", "postgresql", 1), ("claim", "redis", 3)):
        (call,) = world.spans(name)
        assert call.parent == batch.context
        assert dict(call.attributes or {}) == {"postback.count": count, "db.system.name": system}
    assert SECRET not in "".join(span.to_json() for span in world.memory.get_finished_spans())


async def test_a_batch_without_a_sampled_postback_has_no_span() -> None:
    world = World(0.5)
    assert await world.record([_arrival(0)]) == OUTCOMES[:1]
    assert world.memory.get_finished_spans() == ()


async def test_an_engine_that_is_away_is_seen() -> None:
    world = World(1)
    world.verdict = Verdict.UNAVAILABLE
    await world.record([_arrival(0)])
    (claim,) = world.spans("claim")
    assert claim.status.description == "unavailable"


async def test_of_an_error_nothing_is_told_but_its_type() -> None:
    world = World(1)
    world.error = QueueUnavailableError(SECRET)
    with pytest.raises(QueueUnavailableError):
        await world.record([_arrival(0)])
    spans = world.memory.get_finished_spans()
    assert [(span.name, span.status.description) for span in spans] == [
        ("clicks", "QueueUnavailableError"),
        ("record", "QueueUnavailableError"),
        ("postback", None),
    ]
    assert SECRET not in "".join(span.to_json() for span in spans)


# Writers ----------------------------------------------------------------------------------------------------------


def _committed(world: World, entries: list[Entry]) -> Observer:
    plain = Observer()
    counts = BatchCounts(read=len(entries), new=1)
    TracedWriter(world.tracing, plain).committed(3, entries, counts, seconds=0.25, oldest_age_s=1.5)
    assert plain.counts == counts
    return plain


def test_a_stored_batch_is_linked_to_its_sampled_postbacks() -> None:
    world = World(0.5)
    ids = [_arrival(end).receipt.postback_id for end in (0, 1 << 55, (1 << 56) - 1)]
    _committed(world, [Entry(b"1-0", b"c1", b"no payload of ours, but long enough to be one"), *map(_entry, ids)])
    (store,) = world.spans("store")
    assert store.parent is None
    assert [link.context.trace_id.to_bytes(16, "big") for link in store.links] == ids[1:]
    assert (store.end_time or 0) - (store.start_time or 0) == 250_000_000
    attributes = dict(store.attributes or {})
    assert {name: attributes[f"postback.{name}"] for name in ("partition", "read", "new", "oldest_age_s")} == {
        "partition": 3,
        "read": 4,
        "new": 1,
        "oldest_age_s": 1.5,
    }
    assert SECRET not in store.to_json()


def test_rows_of_a_block_are_linked_too() -> None:
    world = World(0.5)
    ids = [_arrival(end).receipt.postback_id for end in (0, 1 << 55, (1 << 56) - 1)]
    lines = b"".join(b"c1\t\t%b\n" % _entry(one).payload for one in ids)
    _committed(world, [Entry(b"1-0", b"b1", lines, b"", 3, 3)])
    (store,) = world.spans("store")
    assert [link.context.trace_id.to_bytes(16, "big") for link in store.links] == ids[1:]


def test_a_stored_batch_of_others_has_no_span_and_a_large_one_few_links() -> None:
    world = World(0.5)
    _committed(world, [_entry(_arrival(0).receipt.postback_id)])
    assert world.spans("store") == []
    _committed(world, [_entry(_arrival((1 << 56) - 1 - number).receipt.postback_id) for number in range(500)])
    (store,) = world.spans("store")
    assert len(store.links) == module.MAX_LINKS


# The collector ----------------------------------------------------------------------------------------------------


async def test_a_collector_that_hangs_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """More spans than the queue holds are made while an export hangs; then the end waits no longer than it may."""
    hanging = socket.create_server(("127.0.0.1", 0))  # connections are taken by the system, and by nobody else
    port = hanging.getsockname()[1]
    monkeypatch.setattr(module, "FLUSH_S", 0.3)
    monkeypatch.setattr(module, "MAX_QUEUED", 600)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracing = open_tracing(TracingConfig(endpoint=f"http://127.0.0.1:{port}", sample_ratio=1.0), "receiver", "here")
    world = World(1, tracing)
    worst_s = 0.0
    for _ in range(300):
        began = time.perf_counter()
        await world.record([_arrival(0), _arrival(1), _arrival(2)])
        worst_s = max(worst_s, time.perf_counter() - began)
    assert worst_s < 0.5
    began = time.perf_counter()
    with structlog.testing.capture_logs() as said:
        await tracing.close()
    assert time.perf_counter() - began < 2
    assert [line["event"] for line in said] == ["spans are left behind: the collector did not take them in time"]
    hanging.close()
    for thread in [one for one in threading.enumerate() if one.name.startswith(("Otel", "flush"))]:
        thread.join(10)  # what it says must not be heard by other tests


def test_complaints_are_said_once_and_without_what_may_be_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "s3cret")
    with structlog.testing.capture_logs() as said:
        tracing = open_tracing(TracingConfig(endpoint="http://127.0.0.1:9"), "receiver", "here")
        for _ in range(2):
            logging.getLogger("opentelemetry.sdk").error("took %.1f s, %s", 1.25, ValueError("s3cret"))
    asyncio.run(tracing.close())
    problems = [str(line["problem"]) for line in said]
    assert problems[-1] == "took 1.2 s, ValueError"
    assert problems[0].startswith("Header format invalid!")
    assert len(problems) == 2
    assert "s3cret" not in str(said)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("https://c/otlp/v1/traces", "https://c/otlp/v1/traces"),
    ],
)
def test_an_endpoint_is_a_server_or_a_whole_url(endpoint: str, url: str) -> None:
    assert traces_url(endpoint) == url


# Without ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [TracingConfig(), TracingConfig(endpoint="http://c:4318", sample_ratio=0.0)])
def test_nothing_is_traced_unless_it_is_asked_for(config: TracingConfig) -> None:
    assert traced_of(Orders(Role.RECEIVER, 0, Config(tracing=config), "redis://r", "postgresql://p", 0)) is None


def test_the_program_does_without_opentelemetry_and_says_when_it_cannot() -> None:
    script = """
import asyncio, sys
sys.modules["opentelemetry"] = None
import ingest.app, ingest.cli, ingest.worker
from ingest.config import Config, TracingConfig
from ingest.serve import ServeError, ServeRole, serve
config = Config(tracing=TracingConfig(endpoint="http://c:4318"))
try:
    asyncio.run(serve(config, ServeRole.ALL, before_workers=None, on_ready=None))
except ServeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == (
        "tracing.endpoint is set, but OpenTelemetry is not installed:"
        " pip install 'postback[otel]', or leave tracing.endpoint empty"
    ), done.stderr
