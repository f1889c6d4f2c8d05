"""The parts of a process that are traced, each in the place of the plain one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice

from opentelemetry.trace import Span, set_span_in_context

from dedup.port import CachedClick, Deduplicator, Verdict
from dedup.port import Entry as Claim
from ingest.arrival import Waiting
from ingest.click_source import Lookup
from ingest.clicks import Click
from ingest.outcome import Outcome
from ingest.receiver import Record
from ingest.tracing import MAX_LINKS, Tracing, fail, own
from storage.batch_store import BatchCounts
from storage.queue import Entry
from storage.writer import WriterObserver


def traced_record(tracing: Tracing, record: Record) -> Record:
    """The recording of postbacks as they come. Sampled ones have a span each, from receipt to outcome. The first of a
    batch has the batch below it, the others are linked to it."""

    async def recorded(arrivals: Sequence[Waiting]) -> list[Outcome]:
        places = tracing.sample.places(arrivals)
        if not places:
            return await record(arrivals)
        spans = [tracing.begin_postback(arrivals[place].receipt) for place in places]
        try:
            with tracing.span("record", set_span_in_context(spans[0]), count=len(arrivals)) as batch:
                for span in spans[1:]:
                    span.add_link(batch.get_span_context())
                outcomes = await record(arrivals)
                results = Counter(outcome.result.value for outcome in outcomes)
                batch.set_attributes(own(results))
            for span, place in zip(spans, places, strict=True):
                _tell(span, outcomes[place])
        finally:
            for span in spans:
                span.end()
        return outcomes

    return recorded


def _tell(span: Span, outcome: Outcome) -> None:
    """What became of a postback: nothing that its sender sent."""
    said = {"result": outcome.result.value, "reason": outcome.reason, "conversion_id": outcome.conversion_id}
    span.set_attributes(own({name: str(value) for name, value in said.items() if value is not None}))


class TracedDeduplicator:
    """See `dedup.port.Deduplicator`."""

    def __init__(self, tracing: Tracing, deduplicator: Deduplicator) -> None:
        self._tracing = tracing
        self._deduplicator = deduplicator

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        """See the port."""
        with self._tracing.call("clicks", "redis", count=len(click_ids)):
            return await self._deduplicator.clicks(click_ids)

    async def cache(self, clicks: Sequence[CachedClick]) -> None:
        """See the port."""
        with self._tracing.call("cache", "redis", count=len(clicks)):
            await self._deduplicator.cache(clicks)

    async def claim(self, entries: Sequence[Claim]) -> list[Verdict]:
        """See the port."""
        with self._tracing.call("claim", "redis", count=len(entries)) as span:
            verdicts = await self._deduplicator.claim(entries)
            if Verdict.UNAVAILABLE in verdicts:
                fail(span, Verdict.UNAVAILABLE.value)
            return verdicts


def traced_lookup(tracing: Tracing, lookup: Lookup) -> Lookup:
    """The look-up of clicks in Postgres."""

    async def look_up(click_ids: Sequence[str]) -> dict[str, Click]:
        with tracing.call("lookup", "postgresql", count=len(click_ids)):
            return await lookup(click_ids)

    return look_up


class TracedWriter:
    """See `storage.writer.WriterObserver`. A batch with sampled postbacks has a span, linked to theirs."""

    def __init__(self, tracing: Tracing, observer: WriterObserver) -> None:
        self._tracing = tracing
        self._observer = observer

    def committed(
        self, partition: int, entries: Sequence[Entry], counts: BatchCounts, *, seconds: float, oldest_age_s: float
    ) -> None:
        """See `WriterObserver`."""
        self._observer.committed(partition, entries, counts, seconds=seconds, oldest_age_s=oldest_age_s)
        contexts = list(islice(self._tracing.sample.queued(entries), MAX_LINKS))
        if contexts:
            said = asdict(counts) | {"partition": partition, "oldest_age_s": oldest_age_s}
            self._tracing.was_stored(contexts, seconds, said)

    def retried(self, partition: int, doing: str, error: Exception, *, delay_s: float) -> None:
        """See `WriterObserver`."""
        self._observer.retried(partition, doing, error, delay_s=delay_s)

    def dead_letter(self, partition: int, entry: Entry, error: str) -> None:
        """See `WriterObserver`."""
        self._observer.dead_letter(partition, entry, error)


class Traced:
    """All of them, over one `Tracing`; each takes what the plain one takes, or the plain one."""

    def __init__(self, tracing: Tracing) -> None:
        self.record = partial(traced_record, tracing)
        self.deduplicator = partial(TracedDeduplicator, tracing)
        self.lookup = partial(traced_lookup, tracing)
        self.writer = partial(TracedWriter, tracing)
        self.close = tracing.close
