"""The page of the live log, and its stream of server-sent events."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from ingest.api_keys import KeysAwayError
from ingest.catalog_change import Kind
from ingest.catalog_service import MAX_PAGE, CatalogService
from ingest.console.editing import names_of
from ingest.console.live import LOOK_EVERY_S, OVERLAP, FullError, Listener, LiveFeed, Shown
from ingest.console.pages import HEADERS
from ingest.console.sessions import PATH, Sessions
from ingest.console.visits import RefusedError, Route, Visit
from ingest.reasons import Reason
from storage.activity import Filter, PostbackEntry, fetch_latest, fetch_postbacks
from storage.postgres import AWAY, Pool

OUTCOMES: Final = ("accepted", "duplicate", "conflict", "rejected", "parked")
ROWS: Final = 50
HEARTBEAT_S: Final = 10.0
RETRY_MS: Final = 1_000
MAX_CATCH_UP: Final = timedelta(minutes=10)
"""How far back somebody who comes again is told what was missed."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_EVENT_ID: Final = re.compile(r"[0-9]{1,17}", re.ASCII)
_CUT: Final = "event: cut\ndata: .\n\n"
_HEARTBEAT: Final = b": .\n\n"
_Write = Callable[[bytes], Awaitable[None]]


class LogPage:
    """The handlers."""

    def __init__(self, service: CatalogService, pool: Pool, feed: LiveFeed, sessions: Sessions) -> None:
        self._service = service
        self._pool = pool
        self._feed = feed
        self._sessions = sessions

    def routes(self) -> Sequence[Route]:
        """What there is."""
        return (Route("GET", "/log", self._page), Route("GET", "/log/events", self._events))

    async def _page(self, visit: Visit) -> web.Response:
        wanted = _filter(visit)
        found = await fetch_latest(self._pool, ROWS, wanted)
        advertisers = await self._service.page(Kind.ADVERTISER, {}, limit=MAX_PAGE)
        after = found[0].received_at if found else datetime.now(UTC)
        asked = {key: value for key in ("outcome", "reason", "click", "advertiser") if (value := visit.query(key))}
        return await visit.page(
            "log.html",
            entries=found,
            wanted=wanted,
            outcomes=OUTCOMES,
            reasons=[reason.value for reason in Reason],
            advertisers=names_of(advertisers.items),
            events=f"{PATH}/log/events?{urlencode({**asked, 'after': event_id(after)})}",
        )

    async def _events(self, visit: Visit) -> web.StreamResponse:
        wanted = _filter(visit)
        try:
            with self._feed.listen(wanted) as listener:
                response = web.StreamResponse(headers={**HEADERS, "X-Accel-Buffering": "no"})
                response.content_type = "text/event-stream"
                response.charset = "utf-8"
                await response.prepare(visit.request)
                await response.write(f"retry: {RETRY_MS}\n\n".encode())
                # The visitor is gone, or Postgres is: the stream ends, and who is there comes again.
                with suppress(*AWAY, KeysAwayError):
                    await self._catch_up(visit, wanted, response.write)
                    await self._follow(visit, listener, response.write)
                return response
        except FullError:
            raise RefusedError(503, "Too many watch the log at this moment.") from None

    async def _follow(self, visit: Visit, listener: Listener, write: _Write) -> None:
        """What comes, until there is no more, or nobody who may see it."""
        quiet_s = 0.0
        while not listener.is_over and visit.request.transport is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await listener.has_news.wait()
            shown, is_cut = listener.take()
            quiet_s = 0.0 if shown or is_cut else quiet_s + LOOK_EVERY_S
            if shown or is_cut:
                await write(((_CUT if is_cut else "") + "".join(map(_event, shown))).encode())
            elif quiet_s >= HEARTBEAT_S:
                quiet_s = 0.0
                await write(_HEARTBEAT)
            if await self._sessions.holder_of(visit.session) is None:
                return

    async def _catch_up(self, visit: Visit, wanted: Filter, write: _Write) -> None:
        """What came since the last event that this visitor has seen. Some may come twice: the page knows them by id."""
        last = visit.request.headers.get("Last-Event-ID") or visit.query("after") or ""
        if not _EVENT_ID.fullmatch(last):
            return
        since = max(_EPOCH + timedelta(microseconds=int(last)) - OVERLAP, datetime.now(UTC) - MAX_CATCH_UP)
        found = await fetch_postbacks(self._pool, since, ROWS, wanted)
        said = "".join(map(_event, await self._feed.show(found)))
        await write(((_CUT if len(found) == ROWS else "") + said).encode())


def event_id(at: datetime) -> str:
    """What an event is called: when its postback was received, in microseconds since 1970."""
    return str((at - _EPOCH) // timedelta(microseconds=1))


def _event(shown: Shown) -> str:
    data = "".join(f"data: {line}\n" for line in shown.html.splitlines() if line)
    return f"id: {event_id(shown.entry.received_at)}\n{data}\n"


def _filter(visit: Visit) -> Filter:
    outcome, reason, advertiser = visit.query("outcome"), visit.query("reason"), visit.query("advertiser")
    if outcome is not None and outcome not in OUTCOMES:
        raise RefusedError(404, f"There is no such outcome; there are: {', '.join(OUTCOMES)}.")
    return Filter(outcome, reason, visit.query("click"), None if advertiser is None else visit.number_of(advertiser))


def latest_of(pool: Pool) -> Callable[[int], Awaitable[Sequence[PostbackEntry]]]:
    """For the feed: the newest there are."""
    return lambda limit: fetch_latest(pool, limit, Filter())


def postbacks_of(pool: Pool) -> Callable[[datetime, int], Awaitable[Sequence[PostbackEntry]]]:
    """For the feed: those after a moment."""
    return lambda since, limit: fetch_postbacks(pool, since, limit, Filter())
