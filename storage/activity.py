"""What happened, for people to look at: counts by hour and day, the latest postbacks, all of one click.

Reads only. Each call has a limit of rows, and a limit of time that Postgres keeps too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from storage.outbox import Message, messages_of
from storage.postgres import Connection, Pool, Row, borrowed
from storage.sqlfiles import queries

LIMIT_S: Final = 3.0
"""For one look."""
MAX_GROUPS: Final = 20_000
MAX_OF_CLICK: Final = 200
MAX_ASIDE: Final = 1_000
MAX_ADVERTISERS: Final = 500
_WINDOWS: Final = tuple(timedelta(seconds=seconds) for seconds in (10, 120, 1_800, 86_400, 30 * 86_400))
"""Each is looked at only if the one before held few rows: so none holds many."""
_RECENT_CLICKS: Final = timedelta(days=7)
_HEARD_OF: Final = timedelta(days=7)
_SAMPLES: Final = 8


@dataclass(frozen=True, slots=True)
class Counted:
    """Conversions of one hour or day (its start, UTC), currency and status in force; amounts with adjustments."""

    at: datetime
    currency: str
    status: str
    conversions: int
    revenue: Decimal
    payout: Decimal


@dataclass(frozen=True, slots=True)
class Logged:
    """Postbacks of one hour or day that were not counted."""

    at: datetime
    outcome: str
    reason: str | None
    postbacks: int


@dataclass(frozen=True, slots=True)
class Filter:
    """Which postbacks; None: whatever it is."""

    outcome: str | None = None
    reason: str | None = None
    click_id: str | None = None
    advertiser_id: int | None = None


@dataclass(frozen=True, slots=True)
class PostbackEntry:
    """One postback that was counted (`outcome` accepted), logged or parked. `entry_id` is that of the conversion or the
    log row, also of the one that it would get. What a rejected one has not is None."""

    entry_id: UUID
    received_at: datetime
    outcome: str
    reason: str | None
    advertiser_id: int | None
    campaign_id: int | None
    campaign: str | None
    click_id: str | None
    goal_value: str | None
    goal_version: int | None
    txn_id: str | None
    status: str | None
    currency: str | None
    revenue: Decimal | None
    payout: Decimal | None


@dataclass(frozen=True, slots=True)
class ClickStory:
    """All that is stored of a click, rows as storage/sql/activity.sql has them, in order of time. `click` None: it is
    not registered (it may have been). `is_cut`: there is more than is shown."""

    click: Row | None
    conversions: Sequence[Row]
    log: Sequence[Row]
    parked: Sequence[Row]
    replays: Sequence[Row]
    status_changes: Sequence[Row]
    adjustments: Sequence[Row]
    messages: Sequence[Message]

    @property
    def is_cut(self) -> bool:
        """Whether any of the lists has as many rows as it may."""
        lists: tuple[Sequence[object], ...] = (
            self.conversions,
            self.log,
            self.parked,
            self.replays,
            self.status_changes,
            self.adjustments,
            self.messages,
        )
        return any(len(rows) >= MAX_OF_CLICK for rows in lists)


async def fetch_counts(
    pool: Pool, since: datetime, campaign_id: int | None, *, by_day: bool
) -> tuple[list[Counted], list[Logged]]:
    """What was counted and what was not, from `since` on, of a campaign or of all. Raises what `storage.postgres` names
    AWAY."""
    unit = "day" if by_day else "hour"
    async with _looking(pool) as connection:
        sql = queries("activity")
        counted = await connection.fetch(sql[f"conversions_by_{unit}"], since, campaign_id, MAX_GROUPS)
        logged = await connection.fetch(sql[f"log_by_{unit}"], since, campaign_id, MAX_GROUPS)
    return [Counted(*row) for row in counted], [Logged(*row) for row in logged]


async def count_aside(pool: Pool) -> tuple[int, int]:
    """(parked postbacks, dead letters), each MAX_ASIDE at most."""
    async with _looking(pool) as connection:
        row = await connection.fetchrow(queries("activity")["aside"], MAX_ASIDE)
    assert row is not None, "two counts are a row"
    return row[0], row[1]


async def fetch_postbacks(pool: Pool, since: datetime, limit: int, wanted: Filter) -> list[PostbackEntry]:
    """The latest that were received after `since`, newest first."""
    async with _looking(pool) as connection:
        return await _postbacks(connection, since, limit, wanted)


async def fetch_latest(pool: Pool, limit: int, wanted: Filter) -> list[PostbackEntry]:
    """The latest of the last 30 days, newest first: found in windows that widen, so that no look goes through much."""
    found: list[PostbackEntry] = []
    async with _looking(pool) as connection:
        for window in _WINDOWS if wanted.click_id is None else _WINDOWS[-1:]:
            found = await _postbacks(connection, datetime.now(UTC) - window, limit, wanted)
            if len(found) >= limit:
                break
    return found


async def fetch_click_story(pool: Pool, click_id: str) -> ClickStory:
    """All of one click."""
    async with _looking(pool) as connection:
        sql = queries("activity")
        click = await connection.fetchrow(sql["click"], click_id)
        conversions = await connection.fetch(sql["conversions_of_click"], click_id, MAX_OF_CLICK)
        log = await connection.fetch(sql["log_of_click"], click_id, MAX_OF_CLICK)
        parked = await connection.fetch(sql["parked_of_click"], click_id, MAX_OF_CLICK)
        replays = await connection.fetch(sql["replays_of_log"], [row["log_id"] for row in log], MAX_OF_CLICK)
        ids = [row["conversion_id"] for row in conversions]
        times = [row["clicked_at"] for row in conversions]
        changes = await connection.fetch(sql["status_changes_of_conversions"], ids, times, MAX_OF_CLICK)
        adjustments = await connection.fetch(sql["adjustments_of_conversions"], ids, MAX_OF_CLICK)
        messages = await messages_of(connection, ids, times, MAX_OF_CLICK)
    return ClickStory(click, conversions, log, parked, replays, changes, adjustments, messages)


async def fetch_last_received(pool: Pool) -> dict[int, datetime]:
    """When the latest conversion of each advertiser was received, of those that had one in the last week: the first 500
    that are active, by their ids. Raises what `storage.postgres` names AWAY, and PostgresError."""
    async with _looking(pool) as connection:
        since = datetime.now(UTC) - _HEARD_OF
        rows = await connection.fetch(queries("activity")["last_received"], since, MAX_ADVERTISERS)
    return {row[0]: row[1] for row in rows}


async def fetch_recent_clicks(pool: Pool, campaign_id: int) -> list[str]:
    """Some clicks of a campaign, of the last week."""
    async with _looking(pool) as connection:
        since = datetime.now(UTC) - _RECENT_CLICKS
        rows = await connection.fetch(queries("activity")["clicks_of_campaign"], campaign_id, since, _SAMPLES)
    return [row["click_id"] for row in rows]


async def _postbacks(connection: Connection, since: datetime, limit: int, wanted: Filter) -> list[PostbackEntry]:
    rows = await connection.fetch(
        queries("activity")["postbacks"],
        since,
        limit,
        wanted.outcome,
        wanted.reason,
        wanted.click_id,
        wanted.advertiser_id,
    )
    return [PostbackEntry(*row) for row in rows]


@asynccontextmanager
async def _looking(pool: Pool) -> AsyncIterator[Connection]:
    """A transaction that cannot write, of one moment, with a limit that also ends what a cut connection left behind."""
    async with (
        borrowed(pool, LIMIT_S) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(queries("activity")["limit_time"], f"{LIMIT_S * 1000:.0f}")
        yield connection
