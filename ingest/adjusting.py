"""Requests about conversions into adjustments and status changes: many in one transaction, each judged on its own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final
from uuid import UUID, uuid4, uuid5

from ingest import money
from ingest.adjustments import Adjust, AdjustmentError, Delta, Request, SetStatus, Target, delta_of, is_same
from ingest.catalog import Goal, Rate
from ingest.goal_versions import GoalVersion, goals_at
from storage.adjustments import (
    Adjustment,
    Balance,
    StatusChange,
    balances,
    conversions_of_clicks,
    insert_adjustments,
    insert_status_changes,
    known_adjustments,
    known_status_changes,
    lock_adjustments,
    make_room,
)
from storage.postgres import Connection

MAX_REQUESTS: Final = 500
"""Requests in one transaction."""


class Done(StrEnum):
    """What became of a request; `known`: it was done before."""

    APPLIED = "applied"
    KNOWN = "known"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a request, in words."""

    done: Done
    text: str
    conversion_id: UUID | None = None


async def apply_requests(
    connection: Connection, requests: Sequence[Request], made_by: str, *, dry_run: bool = False
) -> list[Verdict]:
    """A verdict for each, in order; one that is refused does not hold up others, and each sees what was done before.

    `dry_run`: nothing is written. The connection must not be in a transaction. At most MAX_REQUESTS at once.
    """
    if len(requests) > MAX_REQUESTS:
        raise ValueError(f"{len(requests)} requests, {MAX_REQUESTS} at most")
    found = await _find(connection, [request.target for request in requests])
    named = {one for one in found if isinstance(one, UUID)}
    clicked = [(one, clicked_ms_of(one)) for one in sorted(named)]
    if not dry_run and any(isinstance(request, SetStatus) for request in requests):
        known = await balances(connection, clicked)
        await make_room(connection, [balance.clicked_ms for balance in known.values()])
    async with connection.transaction():
        if not dry_run:
            await lock_adjustments(connection)
        batch = await _load(connection, requests, found, clicked)
        verdicts = [batch.decide(request, one, made_by) for request, one in zip(requests, found, strict=True)]
        if not dry_run:
            await insert_adjustments(connection, batch.adjustments)
            await insert_status_changes(connection, batch.changes)
    return verdicts


def clicked_ms_of(conversion_id: UUID) -> int:
    """The time of its click, which each conversion's id begins with: `dedup.policy.conversion_id`."""
    return conversion_id.int >> 80


def request_id(conversion_id: UUID, reference: str) -> UUID:
    """The id of what is asked of a conversion under a reference: the same each time it is asked."""
    return uuid5(conversion_id, reference)


async def _find(connection: Connection, targets: Sequence[Target]) -> list[UUID | AdjustmentError]:
    """The conversion of each, or why there is none."""
    click_ids = {target.click_id for target in targets if target.conversion_id is None and target.click_id is not None}
    by_click = defaultdict(list)
    if click_ids:
        for one in await conversions_of_clicks(connection, sorted(click_ids)):
            by_click[one.click_id].append(one)
    found: list[UUID | AdjustmentError] = []
    for target in targets:
        if target.conversion_id is not None:
            found.append(target.conversion_id)
            continue
        goal = target.goal_value
        ids = [
            one.conversion_id
            for one in by_click[target.click_id or ""]
            if (goal is None or one.goal_value.casefold() == goal.casefold()) and one.txn_id == target.txn_id
        ]
        if len(ids) == 1:
            found.append(ids[0])
        elif not ids:
            found.append(AdjustmentError("click_id: no conversion of this click, goal and txn_id"))
        else:
            found.append(AdjustmentError(f"click_id: {len(ids)} conversions are of it: give goal or conversion_id"))
    return found


async def _load(
    connection: Connection,
    requests: Sequence[Request],
    found: Sequence[UUID | AdjustmentError],
    clicked: Sequence[tuple[UUID, int]],
) -> _Batch:
    stand = await balances(connection, clicked)
    adjustment_ids: list[UUID] = []
    changes: list[tuple[UUID, int, UUID]] = []
    versions: set[GoalVersion] = set()
    for request, one in zip(requests, found, strict=True):
        if not isinstance(one, UUID) or one not in stand:
            continue
        if isinstance(request, Adjust):
            adjustment_ids.append(request_id(one, request.reference))
            versions.add((stand[one].goal_id, stand[one].goal_version))
        elif request.reference is not None:
            changes.append((one, stand[one].clicked_ms, request_id(one, request.reference)))
    return _Batch(
        stand,
        await known_adjustments(connection, adjustment_ids) if adjustment_ids else {},
        await known_status_changes(connection, changes) if changes else {},
        await goals_at(connection, versions) if versions else {},
    )


class _Batch:
    """Decides requests one after the other; what they come to is in `adjustments` and `changes`."""

    def __init__(
        self,
        stand: dict[UUID, Balance],
        made: dict[UUID, Adjustment],
        given: dict[UUID, str],
        goals: Mapping[GoalVersion, Goal],
    ) -> None:
        self._stand = stand
        self._made = made
        self._given = given
        self._goals = goals
        self.adjustments: list[Adjustment] = []
        self.changes: list[StatusChange] = []

    def decide(self, request: Request, found: UUID | AdjustmentError, made_by: str) -> Verdict:
        if isinstance(found, AdjustmentError):
            return Verdict(Done.REFUSED, str(found))
        balance = self._stand.get(found)
        if balance is None:
            return Verdict(Done.REFUSED, "conversion_id: there is no such conversion", found)
        try:
            if isinstance(request, Adjust):
                return self._adjust(request, balance, made_by)
            return self._set_status(request, balance, made_by)
        except AdjustmentError as error:
            return Verdict(Done.REFUSED, str(error), found)

    def _adjust(self, request: Adjust, balance: Balance, made_by: str) -> Verdict:
        adjustment_id = request_id(balance.conversion_id, request.reference)
        made = self._made.get(adjustment_id)
        if made is not None:
            delta = Delta(made.sale_micros, made.revenue_micros, made.payout_micros)
            text = f"{made.kind} {_shown(delta, balance)}"
            if not is_same(request, made.kind, delta, balance):
                raise AdjustmentError(f"reference: the conversion has another adjustment of this name: {text}")
            return Verdict(Done.KNOWN, text, balance.conversion_id)
        delta = delta_of(request, balance, self._rate(balance))
        adjustment = Adjustment(
            adjustment_id=adjustment_id,
            conversion_id=balance.conversion_id,
            clicked_ms=balance.clicked_ms,
            kind=request.kind,
            sale_micros=delta.sale_micros,
            revenue_micros=delta.revenue_micros,
            payout_micros=delta.payout_micros,
            reference=request.reference,
            reason=request.reason,
            made_by=made_by,
        )
        self.adjustments.append(adjustment)
        self._made[adjustment_id] = adjustment
        sale_micros = balance.net_sale_micros
        self._stand[balance.conversion_id] = replace(
            balance,
            net_sale_micros=None if sale_micros is None else sale_micros + delta.sale_micros,
            net_revenue_micros=balance.net_revenue_micros + delta.revenue_micros,
            net_payout_micros=balance.net_payout_micros + delta.payout_micros,
        )
        return Verdict(Done.APPLIED, f"{request.kind} {_shown(delta, balance)}", balance.conversion_id)

    def _set_status(self, request: SetStatus, balance: Balance, made_by: str) -> Verdict:
        conversion_id = balance.conversion_id
        change_id = uuid4()
        if request.reference is not None:
            change_id = request_id(conversion_id, request.reference)
            given = self._given.get(change_id)
            if given is not None and given != request.status:
                raise AdjustmentError(f"reference: the conversion has another status of this name: {given}")
            if given is not None:
                return Verdict(Done.KNOWN, f"status {given} was given before", conversion_id)
            self._given[change_id] = request.status
        elif balance.is_given and balance.status == request.status:
            return Verdict(Done.KNOWN, f"status is {balance.status}", conversion_id)
        self.changes.append(
            StatusChange(
                conversion_id=conversion_id,
                clicked_ms=balance.clicked_ms,
                change_id=change_id,
                status=request.status,
                reference=request.reference,
                reason=request.reason,
                made_by=made_by,
            )
        )
        self._stand[conversion_id] = replace(balance, status=request.status, is_given=True)
        return Verdict(Done.APPLIED, f"status {balance.status} is now {request.status}", conversion_id)

    def _rate(self, balance: Balance) -> Rate | None:
        goal = self._goals.get((balance.goal_id, balance.goal_version))
        found = goal.rate_for(balance.publisher_id, balance.country) if goal else None
        return found[1] if found else None


def _shown(delta: Delta, balance: Balance) -> str:
    sale, revenue, payout = (_signed(micros) for micros in delta)
    named = f"revenue {revenue}, payout {payout} {balance.currency}"
    return named if balance.net_sale_micros is None else f"sale {sale}, {named}"


def _signed(micros: int) -> str:
    return f"{'-' if micros < 0 else ''}{money.format_micros(abs(micros))}"
