"""POST /clicks: register clicks, with a key for that. Stored in Postgres before the answer, then put into Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson
import structlog
from aiohttp import web

from dedup.port import Deduplicator, QueueUnavailableError
from ingest.answers import Answer, invalid
from ingest.api_keys import KeyRing, KeysAwayError
from ingest.click_source import ClickSource, ClicksUnavailableError
from ingest.clicks import Click, ClickError, read_click
from ingest.metrics import Metrics
from ingest.outcome import Result
from ingest.reasons import Reason
from ingest.receiver import Receiver, respond
from ingest.wire import Fault, UnreadableError, read_objects
from storage.rows import NewClick

MAX_CLICKS: Final = 10_000
_JSON: Final = "application/json"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Registered:
    """A click as it is stored, and whether this registration was its first."""

    click: Click
    is_new: bool


Register = Callable[[Sequence[NewClick]], Awaitable[Mapping[str, Registered]]]
"""Stores clicks, the first registration of an id wins; by id. Raises ClicksUnavailableError."""


class ClickApi:
    """The handler. Items that cannot be read are named; the others are registered all the same."""

    def __init__(
        self,
        receiver: Receiver,
        register: Register,
        clicks: ClickSource,
        deduplicator: Deduplicator,
        keys: KeyRing,
        metrics: Metrics,
        now_ms: Callable[[], int],
    ) -> None:
        self._receiver = receiver
        self._register = register
        self._clicks = clicks
        self._deduplicator = deduplicator
        self._keys = keys
        self._counter = metrics.counter("postback_clicks")
        self._now_ms = now_ms

    async def clicks(self, request: web.Request) -> web.Response:
        """200: every click is registered. 400: some cannot be read, each is named; the rest is registered."""
        try:
            holder = await self._keys.holder_in(request.headers.get("Authorization"))
        except KeysAwayError:
            return _unavailable()
        if holder is None:
            response = _refused(401, "Authorization: expected Bearer and a key for clicks")
            response.headers["WWW-Authenticate"] = "Bearer"
            return response
        if not holder.may_register:
            return _refused(403, f"Authorization: the key may not register clicks, its role is {holder.role.value}")
        try:
            body = await self._receiver.read_body(request)
            items = read_objects(request.content_type, body, MAX_CLICKS)
        except UnreadableError as error:
            return respond(Answer(error.status, _JSON, orjson.dumps(invalid(error.fault))))
        now_ms = self._now_ms()
        read = [_read(item, now_ms) for item in items]
        new = [item for item in read if isinstance(item, NewClick)]
        try:
            registered = await self._register(new) if new else {}
        except ClicksUnavailableError:
            return _unavailable()
        await self._put_into_cache(registered, now_ms)
        verdicts = [self._verdict(item, registered) for item in read]
        is_single = body.lstrip()[:1] == b"{" and len(verdicts) == 1
        status = 400 if any(isinstance(item, Fault) for item in read) else 200
        return respond(Answer(status, _JSON, orjson.dumps(verdicts[0] if is_single else verdicts)))

    def _verdict(self, item: NewClick | Fault, registered: Mapping[str, Registered]) -> dict[str, str]:
        if isinstance(item, Fault):
            self._counter.labels("invalid").inc()
            return invalid(item)
        status = "accepted" if registered[item.click_id].is_new else "duplicate"
        self._counter.labels(status).inc()
        return {"status": status, "click_id": item.click_id}

    async def _put_into_cache(self, registered: Mapping[str, Registered], now_ms: int) -> None:
        clicks = {click_id: entry.click for click_id, entry in registered.items()}
        try:
            await self._deduplicator.cache(self._clicks.cachable(clicks, now_ms))
        except QueueUnavailableError as error:
            log.warning("clicks are registered but not cached: they will be read from Postgres", error=str(error))


def _refused(status: int, detail: str) -> web.Response:
    return respond(Answer(status, _JSON, orjson.dumps(invalid(Fault(Reason.BAD_TOKEN, detail)))))


def _unavailable() -> web.Response:
    return respond(Answer(503, _JSON, orjson.dumps({"status": Result.UNAVAILABLE.value})))


def _read(item: Mapping[str, str] | Fault, now_ms: int) -> NewClick | Fault:
    if isinstance(item, Fault):
        return item
    try:
        return read_click(item, now_ms)
    except ClickError as error:
        return Fault(Reason.BAD_PARAMETER, str(error))
