"""Adjustments, and statuses that operators give: only ever added to, each once by its id.

Money in micros (1/1,000,000) of the conversion's currency, times of clicks in ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

import orjson

from storage.partitions import ensure_months, month_of
from storage.postgres import Connection
from storage.sqlfiles import queries


@dataclass(frozen=True, slots=True)
class Balance:
    """A conversion as it was counted and as it stands now. `status` is the one in force, `is_given` whether anybody
    gave it; `sale_micros` None: it has no sale."""

    conversion_id: UUID
    clicked_ms: int
    goal_id: int
    goal_version: int
    publisher_id: int
    country: str | None
    currency: str
    status: str
    is_given: bool
    sale_micros: int | None
    revenue_micros: int
    payout_micros: int
    net_sale_micros: int | None
    net_revenue_micros: int
    net_payout_micros: int


@dataclass(frozen=True, slots=True)
class Adjustment:
    """What is added to a conversion, negative where it is taken back."""

    adjustment_id: UUID
    conversion_id: UUID
    clicked_ms: int
    kind: str
    sale_micros: int
    revenue_micros: int
    payout_micros: int
    reference: str
    reason: str | None
    made_by: str


@dataclass(frozen=True, slots=True)
class StatusChange:
    """A status that an operator gives a conversion."""

    conversion_id: UUID
    clicked_ms: int
    change_id: UUID
    status: str
    reference: str | None
    reason: str | None
    made_by: str


@dataclass(frozen=True, slots=True)
class ClickConversion:
    """A conversion by what its sender calls it."""

    click_id: str
    goal_value: str
    txn_id: str | None
    conversion_id: UUID


async def lock_adjustments(connection: Connection) -> None:
    """Keep others who adjust out until the caller's transaction ends."""
    await connection.execute(queries("adjustments")["lock"])


async def conversions_of_clicks(connection: Connection, click_ids: Sequence[str]) -> list[ClickConversion]:
    """All conversions of these clicks."""
    rows = await connection.fetch(queries("adjustments")["of_clicks"], click_ids)
    return [ClickConversion(*row) for row in rows]


async def balances(connection: Connection, wanted: Sequence[tuple[UUID, int]]) -> dict[UUID, Balance]:
    """Conversions by id, of those (id, time of its click) that there are."""
    ids, clicked_ms = [one[0] for one in wanted], [one[1] for one in wanted]
    rows = await connection.fetch(queries("adjustments")["conversions"], ids, clicked_ms)
    return {row[0]: Balance(*row) for row in rows}


async def known_adjustments(connection: Connection, ids: Sequence[UUID]) -> dict[UUID, Adjustment]:
    """By id, those that there are."""
    rows = await connection.fetch(queries("adjustments")["adjustments"], ids)
    return {row[0]: Adjustment(*row) for row in rows}


async def known_status_changes(connection: Connection, wanted: Sequence[tuple[UUID, int, UUID]]) -> dict[UUID, str]:
    """Status by change id, of those (conversion, time of its click, change) that there are."""
    columns = [[one[place] for one in wanted] for place in range(3)]
    rows = await connection.fetch(queries("adjustments")["status_changes"], *columns)
    return {row[0]: row[1] for row in rows}


async def make_room(connection: Connection, clicked_ms: Sequence[int]) -> None:
    """Partitions for status changes of conversions of these clicks. Not in a transaction."""
    await ensure_months(connection, "status_changes", {month_of(ms) for ms in clicked_ms})


async def insert_adjustments(connection: Connection, adjustments: Sequence[Adjustment]) -> None:
    """Within the caller's transaction."""
    if adjustments:
        await connection.execute(queries("adjustments")["insert_adjustments"], *_columns(adjustments))


async def insert_status_changes(connection: Connection, changes: Sequence[StatusChange]) -> None:
    """Within the caller's transaction; of a conversion's, the last one decides."""
    if changes:
        await connection.execute(queries("adjustments")["insert_status_changes"], *_columns(changes))


def _columns(rows: Sequence[Adjustment] | Sequence[StatusChange]) -> list[list[Any]]:
    return [[getattr(row, one.name) for row in rows] for one in fields(rows[0])]


async def goal_documents(
    connection: Connection, wanted: Sequence[tuple[int, int]]
) -> list[tuple[int, int, int, dict[str, object]]]:
    """(goal, version, campaign, what it was under the keys of a catalog file) of those (goal, version) that the
    catalog's history remembers."""
    rows = await connection.fetch(
        queries("adjustments")["goal_documents"], [one[0] for one in wanted], [one[1] for one in wanted]
    )
    return [(row[0], row[1], row[2], orjson.loads(row[3])) for row in rows]
