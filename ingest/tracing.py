"""Traces of a sample of postbacks, by OpenTelemetry. That is an extra: nothing imports this module unless it traces.

A sampled postback has a trace of its own, whose id is the postback's, and whose first span's id is the end of that. So
a writer that meets the postback in the queue knows by its id alone that it is sampled, and where its trace is.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from threading import Thread
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

import structlog
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, TraceFlags, get_current_span
from opentelemetry.trace.status import Status, StatusCode
from opentelemetry.util.types import AttributeValue

from ingest import __version__
from ingest.arrival import Receipt, Waiting
from ingest.config import TracingConfig
from storage.queue import Entry

FLUSH_S: Final = 3.0
"""How long an end waits for the collector to take what is left."""
MAX_QUEUED: Final = 2_048
"""Spans that wait for the collector; the oldest of more are dropped."""
MAX_LINKS: Final = 128
"""Links of a span; further postbacks of a batch are left out."""
SAY_AGAIN_S: Final = 60.0
"""How long the same complaint about the collector is not repeated."""

_DIGIT_BYTES: Final = 7  # the end of a UUID of version 7 that is random all through
_DIGITS: Final = slice(16 - _DIGIT_BYTES, 16)
_DIGITS_OF_TEXT: Final = slice(21, 36)  # the same where the UUID is written out: two digits, "-", twelve
_MOST_DIGITS: Final = (1 << 8 * _DIGIT_BYTES) - 1

log = structlog.get_logger()


class Sample:
    """Which postbacks are traced: those whose ids end high enough, as OpenTelemetry samples by trace ids. Everybody who
    goes by the same ratio chooses the same."""

    def __init__(self, ratio: float) -> None:
        """`ratio`: how many of them, more than 0 and up to 1."""
        least = min(round((1 - ratio) * (_MOST_DIGITS + 1)), _MOST_DIGITS).to_bytes(_DIGIT_BYTES, "big")
        digits = least.hex()
        self._least = least
        self._least_text = f"{digits[:2]}-{digits[2:]}".encode()

    def places(self, arrivals: Sequence[Waiting]) -> list[int]:
        """Where among the arrivals the chosen ones are."""
        least = self._least
        return [place for place, arrival in enumerate(arrivals) if arrival.receipt.postback_id[_DIGITS] >= least]

    def queued(self, entries: Sequence[Entry]) -> Iterator[SpanContext]:
        """The first spans of the chosen postbacks; each payload begins with its postback's id."""
        least = self._least_text
        for payload in chain.from_iterable(entry.payloads() for entry in entries):
            if payload[_DIGITS_OF_TEXT] >= least:
                try:
                    context = first_span(UUID(payload[:36].decode("ascii")).bytes)
                except ValueError:
                    continue  # no payload of ours: it is in dead_letters by now
                if context.is_valid:
                    yield context


def first_span(postback_id: bytes) -> SpanContext:
    """The first span of a postback's own trace."""
    return SpanContext(
        int.from_bytes(postback_id, "big"),
        int.from_bytes(postback_id[8:], "big"),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


class _Ids(RandomIdGenerator):
    """Random ones, but for first spans of postbacks. For one thread, the event loop's."""

    def __init__(self) -> None:
        self._given: SpanContext | None = None

    @contextmanager
    def given(self, context: SpanContext) -> Iterator[None]:
        """What is begun meanwhile has these."""
        self._given = context
        try:
            yield
        finally:
            self._given = None

    def generate_trace_id(self) -> int:
        """See the SDK."""
        return self._given.trace_id if self._given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        """See the SDK."""
        return self._given.span_id if self._given else super().generate_span_id()


class Tracing:
    """The spans of a process. `processor` hands them on, and must neither wait nor raise."""

    def __init__(self, processor: SpanProcessor, *, ratio: float, resource: Mapping[str, str]) -> None:
        self.sample = Sample(ratio)
        self._ids = _Ids()
        self._provider = TracerProvider(
            ALWAYS_ON,  # what is not sampled has no span at all
            # As everywhere: the environment wins.
            Resource.create(dict(resource)).merge(OTELResourceDetector().detect()),
            shutdown_on_exit=False,
            id_generator=self._ids,
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("postback", __version__)

    def begin_postback(self, receipt: Receipt) -> Span:
        """The first span of a postback's trace, from its receipt on. Whoever begins it ends it."""
        with self._ids.given(first_span(receipt.postback_id)):
            return self._tracer.start_span(
                "postback", Context(), SpanKind.SERVER, start_time=receipt.received_us * 1_000
            )

    @contextmanager
    def span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        **attributes: AttributeValue,
    ) -> Iterator[Span]:
        """The current span meanwhile, below the one of `context` or else the current one. Of an error it has the type
        alone: what an error says may be what a sender sent."""
        with self._tracer.start_as_current_span(
            name, context, kind, own(attributes), record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                fail(span, type(error).__name__)
                raise

    @contextmanager
    def call(self, name: str, system: str, **attributes: AttributeValue) -> Iterator[Span]:
        """A call of an engine, such as "redis", if it is made for something that is traced."""
        if not get_current_span().is_recording():
            yield INVALID_SPAN
            return
        with self.span(name, None, SpanKind.CLIENT, **attributes) as span:
            span.set_attribute("db.system.name", system)
            yield span

    def was_stored(
        self, contexts: Sequence[SpanContext], seconds: float, attributes: Mapping[str, AttributeValue]
    ) -> None:
        """A batch of the queue took so long until now; it held these postbacks."""
        now_ns = time.time_ns()
        self._tracer.start_span(
            "store",
            Context(),
            SpanKind.CONSUMER,
            {"db.system.name": "postgresql", **own(attributes)},
            [Link(context) for context in contexts],
            now_ns - round(seconds * 1e9),
        ).end(now_ns)

    async def close(self) -> None:
        """Hand on what is left, for FLUSH_S at most: it is the collector that lets us wait."""
        flushing = Thread(target=self._provider.shutdown, name="flush of spans", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_S)
        if flushing.is_alive():
            log.warning("spans are left behind: the collector did not take them in time", waited_s=FLUSH_S)


def own(attributes: Mapping[str, AttributeValue]) -> dict[str, AttributeValue]:
    """Attributes under our name."""
    return {f"postback.{name}": value for name, value in attributes.items()}


def fail(span: Span, why: str) -> None:
    """Mark a span as failed."""
    span.set_status(Status(StatusCode.ERROR, why))


def open_tracing(config: TracingConfig, role: str, instance: str) -> Tracing:
    """Spans to the collector at `tracing.endpoint`, by a thread of its own. OTEL_BSP_SCHEDULE_DELAY and
    OTEL_EXPORTER_OTLP_* set its pace, headers, certificates and compression."""
    complaints = logging.getLogger("opentelemetry")
    complaints.handlers = [_Complaints()]
    complaints.propagate = False
    exporter = OTLPSpanExporter(traces_url(config.endpoint))
    resource = {
        "service.name": config.service_name,
        "service.version": __version__,
        "service.instance.id": instance,
        "postback.role": role,
    }
    try:
        processor = BatchSpanProcessor(exporter, MAX_QUEUED)
    except ValueError as error:  # a variable of OpenTelemetry's: no reason to take no postbacks
        log.error("traces", problem=f"OTEL_BSP_*: {error}; its defaults are used")
        processor = BatchSpanProcessor(exporter, MAX_QUEUED, 5_000, 512, 30_000)
    return Tracing(processor, ratio=config.sample_ratio, resource=resource)


def traces_url(endpoint: str) -> str:
    """Where OTLP takes traces, if the endpoint names nothing but the server."""
    return f"{endpoint.rstrip('/')}/v1/traces" if urlsplit(endpoint).path in {"", "/"} else endpoint


class _Complaints(logging.Handler):
    """What the SDK says of the collector and of its own settings, in our log. Text that it fills in is left out: it may
    be a header, and that a secret."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = log.bind(**structlog.contextvars.get_contextvars())  # its threads do not have ours
        self._said_at: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Say it, unless it was said just now."""
        text, now = str(record.msg), time.monotonic()
        if now < self._said_at.get(text, 0.0):
            return
        self._said_at[text] = now + SAY_AGAIN_S
        if record.args and isinstance(record.args, tuple):
            with suppress(TypeError, ValueError):  # a number may be wanted where we give none
                text %= tuple(map(_harmless, record.args))
        self._log.warning("traces", problem=text)


def _harmless(value: object) -> object:
    if isinstance(value, BaseException):
        return type(value).__name__
    return value if isinstance(value, int | float) else "…"
