"""The program with a collector of traces, which takes them, refuses them and hangs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.eventually import eventually
from tests.platform import client_of, load_sample, statuses
from tests.program import running

SECRET = "s3cret-of-the-collector"
CLICK = "click-of-somebody"


class Collector:
    """OTLP over HTTP. `answer`: the status that is given; None: none to receivers, until the end."""

    def __init__(self) -> None:
        self.answer: int | None = 200
        self.spans: list[tuple[str, Span]] = []
        self.requests: list[tuple[int | None, str | None]] = []
        self.ended = asyncio.Event()

    async def take(self, request: web.Request) -> web.Response:
        answer = self.answer  # the test may want another by the time that we are done
        self.requests.append((answer, request.headers.get("Authorization")))
        body = ExportTraceServiceRequest.FromString(await request.read())
        (group,) = body.resource_spans
        said = {one.key: one.value.string_value for one in group.resource.attributes}
        assert said["service.name"] == "shop"
        role = said["postback.role"]
        if answer is None and role == "receiver":
            await self.ended.wait()
        self.spans += [(role, span) for scope in group.scope_spans for span in scope.spans]
        return web.Response(status=answer or 200)

    def named(self, name: str) -> list[Span]:
        return [span for _, span in self.spans if span.name == name]

    async def asked(self) -> list[tuple[int | None, str | None]]:
        """What was answered, and the key that came."""
        return self.requests

    async def have(self, name: str, count: int) -> list[Span]:
        """That many of these spans, once they are there."""

        async def now() -> list[Span]:
            return self.named(name)

        return await eventually(now, lambda spans: len(spans) == count, within_s=5)


@asynccontextmanager
async def collecting() -> AsyncIterator[tuple[Collector, str]]:
    """A collector, and where it is."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield collector, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        collector.ended.set()
        await runner.cleanup()


def _attributes(span: Span) -> dict[str, object]:
    return {one.key: one.value.string_value or one.value.int_value for one in span.attributes}


async def test_postbacks_are_traced_from_socket_to_table(
    tmp_path: Path, redis_url: str, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await load_sample(postgres_dsn)
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer {SECRET}")
    async with collecting() as (collector, url):
        tracing = {"TRACING__ENDPOINT": url, "TRACING__SAMPLE_RATIO": "1", "TRACING__SERVICE_NAME": "shop"}
        with running(tmp_path, redis_url, postgres_dsn, **tracing) as program:
            async with client_of(program, postgres_dsn) as client:
                await client.register(CLICK)
                _, accepted = await client.get(f"click_id={CLICK}&goal=install&security_token=t0ken")
                await client.get(f"click_id={CLICK}&goal=install&security_token=t0ken")
                items = [{"click_id": "nobody", "goal": "install"}] * 3
                await client.post("/postbacks", json=items)

                first, repeat, *bulk = await collector.have("postback", 5)
                assert [_attributes(span) for span in (first, repeat)] == [
                    {"postback.result": "accepted", "postback.conversion_id": accepted["conversion_id"]},
                    {"postback.result": "duplicate", "postback.conversion_id": accepted["conversion_id"]},
                ]
                assert _attributes(bulk[0]) == {"postback.result": "rejected", "postback.reason": "unknown_click"}
                batches = await collector.have("record", 3)
                assert [span.parent_span_id for span in batches] == [
                    first.span_id, repeat.span_id, next(one.span_id for one in bulk if not one.links)
                ]  # fmt: skip
                assert _attributes(batches[2]) == {"postback.count": 3, "postback.rejected": 3}
                assert [len(span.links) for span in bulk].count(1) == 2
                assert {one.span_id for span in bulk for one in span.links} == {batches[2].span_id}
                for name in ("clicks", "claim"):
                    calls = await collector.have(name, 3)
                    assert [span.parent_span_id for span in calls] == [span.span_id for span in batches]
                assert [span.parent_span_id for span in collector.named("lookup")] == [batches[2].span_id]

                wanted = {(span.trace_id, span.span_id) for span in (first, repeat, *bulk)}

                async def linked() -> list[tuple[bytes, bytes]]:
                    return [(one.trace_id, one.span_id) for span in collector.named("store") for one in span.links]

                stored = await eventually(linked, lambda links: len(links) >= 5)
                assert sorted(stored) == sorted(wanted), "the writer's batches lead to all that they hold, each once"
                assert {role for role, span in collector.spans if span.name == "store"} == {"writer"}
                assert {role for role, span in collector.spans if span.name != "store"} == {"receiver"}
                log_ids = await client.database.fetch("SELECT log_id FROM postback_log")
                assert {row[0].bytes for row in log_ids} == {span.trace_id for span in (repeat, *bulk)}
                everything = str(collector.spans)
                assert not [said for said in (CLICK, "nobody", "t0ken", "127.0.0.1") if said in everything]

                collector.answer = 401
                assert statuses([await client.get(f"click_id={CLICK}&goal=install")]) == ["duplicate"]
                await eventually(collector.asked, lambda requests: (401, f"Bearer {SECRET}") in requests)
                collector.answer = None
                began = time.monotonic()
                assert set(statuses([await client.get(f"click_id={CLICK}&goal=install") for _ in range(50)])) == {
                    "duplicate"
                }
                assert time.monotonic() - began < 5, "nobody waits for the collector"
                await eventually(collector.asked, lambda requests: requests[-1][0] is None)
                began = time.monotonic()
                assert await asyncio.to_thread(program.stop) == 0
                assert time.monotonic() - began < 10, "nor does the end, for long"
                events = {str(line.get("event")): line for line in program.log}
                assert "401" in str(events["traces"]["problem"])
                assert "spans are left behind: the collector did not take them in time" in events
                assert SECRET not in program.log_path.read_text(encoding="utf-8")
