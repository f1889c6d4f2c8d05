"""The HTTP side of recording: GET|POST /postback and POST /postbacks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import count, repeat
from typing import Final

from aiohttp import web

from ingest.addresses import Network, client_address
from ingest.answers import RETRY_AFTER_S, Answer, answer, unreadable, verdict_json
from ingest.arrival import Arrival, Receipt, UnreadLine, Waiting, arrival_of
from ingest.batching import Coalescer, OverloadedError
from ingest.limits import ByteBudget
from ingest.metrics import Metrics
from ingest.outcome import UNAVAILABLE, Outcome
from ingest.receipts import new_receipt
from ingest.signatures import HEADER as SIGNATURE_HEADER
from ingest.signatures import Route, Signed, signed_request
from ingest.wire import (
    NO_CLICK_ID,
    Fault,
    UnreadableError,
    bulk_lines,
    read_body,
    read_bulk,
    read_fields,
    together,
)

MAX_BATCH: Final = 256
MAX_KEY_BYTES: Final = 255
_MAX_CALLS: Final = 2
"""Batches under way at once: with one a receiver waits for Redis, with more each is too small."""
_WORTH: Final = 16
"""Postbacks for which a batch is begun while another is under way."""
_BULK_CALLS: Final = 2


Record = Callable[[Sequence[Waiting]], Awaitable[list[Outcome]]]
"""One outcome for each, in order; see `ingest.intake.Intake.record`."""


class Receiver:
    """Reads requests, waits for their outcomes, answers. `record` does the rest."""

    def __init__(
        self,
        record: Record,
        metrics: Metrics,
        *,
        trusted_proxies: Sequence[Network],
        body_timeout_s: float,
        max_body: int,
        max_waiting: int,
        max_body_bytes: int,
        stamp: Callable[[str | None], Receipt] = new_receipt,
    ) -> None:
        self._record = record
        self._stamp = stamp
        self._unreadable = metrics.counter("postback_unreadable")
        self._trusted = trusted_proxies
        self._body_timeout_s = body_timeout_s
        self._waiting = Coalescer[Waiting, Outcome](
            record,
            max_batch=MAX_BATCH,
            max_in_flight=_MAX_CALLS,
            max_waiting=max_waiting,
            worth=_WORTH,
        )
        self.submit = self._waiting.submit_soon
        """See `ingest.fast_protocol.Submit`."""
        self._bulk_calls = asyncio.Semaphore(_BULK_CALLS)
        self._max_body = max_body
        self._bodies = ByteBudget(max_body_bytes)

    async def postback(self, request: web.Request) -> web.Response:
        """One postback."""
        try:
            arrival = await self._read_one(request)
            if not arrival.sent:
                return self._refuse(400, NO_CLICK_ID)
            outcome = await self._waiting.submit(arrival)
        except UnreadableError as error:
            return self._refuse(error.status, error.fault)
        except OverloadedError:
            outcome = UNAVAILABLE
        return respond(answer(outcome))

    async def bulk(self, request: web.Request) -> web.Response:
        """Many postbacks: one verdict each, in order, as a JSON array. 503 if any was not stored."""
        try:
            with self._bodies.hold(self._size(request)):
                return await self._bulk(request)
        except UnreadableError as error:
            return self._refuse(error.status, error.fault)
        except OverloadedError:
            return respond(answer(UNAVAILABLE))

    async def _bulk(self, request: web.Request) -> web.Response:
        key = _idempotency_key(request)
        body = await self.read_body(request)
        arrivals = self._items(request, body, key, _signed(request, Route.BULK, "", key, body))
        outcomes: list[Outcome] = []
        async with self._bulk_calls:
            for start in range(0, len(arrivals), MAX_BATCH):
                outcomes += await self._record(arrivals[start : start + MAX_BATCH])
        lost = any(outcome is UNAVAILABLE for outcome in outcomes)
        said = b"[%b]" % b",".join(map(verdict_json, outcomes))
        return respond(Answer(503 if lost else 200, "application/json", said))

    def _items(
        self, request: web.Request, body: bytes, key: str | None, signed: Signed | None
    ) -> Sequence[Arrival | UnreadLine]:
        """The items of a bulk body; lines of NDJSON are read later."""
        remote_ip, stamp = self._remote_ip(request), self._stamp
        lines = bulk_lines(request.content_type, body)
        # One key speaks for the whole request: each item gets its own from its place.
        keys = repeat(None) if key is None else (f"{key}:{place}" for place in count())
        if lines is not None:
            return [UnreadLine(stamp(remote_ip), line, own, signed) for line, own in zip(lines, keys, strict=False)]
        items = read_bulk(request.content_type, body)
        return [arrival_of(stamp(remote_ip), item, own, signed) for item, own in zip(items, keys, strict=False)]

    async def close(self) -> None:
        """Return when nothing is under way."""
        await self._waiting.close()

    async def read_body(self, request: web.Request) -> bytes:
        """The body, within its limits of size and time. Raises UnreadableError."""
        _check_coding(request)
        if request.content_length is not None and request.content_length > self._max_body:
            raise UnreadableError(413, "body: too large")
        try:
            async with asyncio.timeout(self._body_timeout_s):
                return await request.read()
        except web.HTTPRequestEntityTooLarge:
            raise UnreadableError(413, "body: too large") from None
        except TimeoutError:
            raise UnreadableError(408, "body: did not arrive in time") from None
        except (web.RequestPayloadError, ValueError):
            raise UnreadableError(400, "body: cannot be decoded") from None

    def _refuse(self, status: int, fault: Fault) -> web.Response:
        self._unreadable.labels(str(status)).inc()
        response = respond(unreadable(status, fault))
        if status in {408, 413, 501}:  # the rest of the body is still on its way, or nobody knows where it ends
            response.force_close()
        return response

    async def _read_one(self, request: web.Request) -> Arrival:
        _check_coding(request)
        _, _, query = request.raw_path.partition("?")
        sent = read_fields(query)
        body = b""
        if request.method == "POST" and request.can_read_body:
            with self._bodies.hold(self._size(request)):
                body = await self.read_body(request)
                sent = together(sent, read_body(request.content_type, body))
        key = _idempotency_key(request)
        signed = _signed(request, Route.ONE, query, key, body)
        return Arrival(new_receipt(self._remote_ip(request)), sent, key, signed=signed)

    def _size(self, request: web.Request) -> int:
        """The most memory that its body will take."""
        return self._max_body if request.content_length is None else min(request.content_length, self._max_body)

    def _remote_ip(self, request: web.Request) -> str | None:
        # All lines of that header: some proxies add one of their own after what the client has sent.
        forwarded_for = ",".join(request.headers.getall("X-Forwarded-For", ())) if self._trusted else None
        return client_address(request.remote, forwarded_for, self._trusted)


def _check_coding(request: web.Request) -> None:
    """A coding that is not known may end elsewhere for a proxy in front. Raises UnreadableError."""
    if request.headers.get("Transfer-Encoding", "chunked").lower() != "chunked":
        raise UnreadableError(501, "Transfer-Encoding: expected chunked")


def _signed(request: web.Request, route: Route, query: str, key: str | None, body: bytes) -> Signed | None:
    """What the signature in the request's header covers; None without one, at no cost."""
    header = request.headers.get(SIGNATURE_HEADER)
    return None if header is None else signed_request(header, route, query, key, request.content_type, body)


def _idempotency_key(request: web.Request) -> str | None:
    keys = [key for key in request.headers.getall("Idempotency-Key", ()) if key]
    if not keys:
        return None
    if len(keys) > 1:
        raise UnreadableError(400, "Idempotency-Key: given twice")
    key = keys[0]
    if len(key) > MAX_KEY_BYTES or not key.isascii() or not key.isprintable():
        detail = f"Idempotency-Key: expected at most {MAX_KEY_BYTES} printable ASCII characters"
        raise UnreadableError(400, detail)
    return key


def respond(said: Answer) -> web.Response:
    """The response; one that asks for a retry says when, spread so that not all come at once."""
    response = web.Response(status=said.status, body=said.body, content_type=said.content_type)
    if said.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_S + random.randrange(RETRY_AFTER_S))  # noqa: S311
    return response
