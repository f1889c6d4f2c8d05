"""What is asked of a conversion after it was counted, and what it comes to: refunds, corrections, statuses and so on.

Pure. Money in micros (1/1,000,000) of the conversion's currency. The rules are those of
docs/adr/0017-adjustments-are-added-never-changed.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from ingest import money
from ingest.catalog import Rate
from storage.adjustments import Balance

_WHOLE_MICRO_PERCENT: Final = 100 * money.MICROS


class AdjustmentError(ValueError):
    """What is asked cannot be done; the message begins with the field's name."""


class AdjustmentKind(StrEnum):
    """Why money is moved. A refund or chargeback takes back; a correction says itself what is added."""

    REFUND = "refund"
    CHARGEBACK = "chargeback"
    CORRECTION = "correction"


@dataclass(frozen=True, slots=True)
class Target:
    """Which conversion: its id, or its click, goal (None: whichever) and txn_id (None: the one without)."""

    conversion_id: UUID | None = None
    click_id: str | None = None
    goal_value: str | None = None
    txn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Adjust:
    """An adjustment that is asked for. Of a refund or chargeback, amounts are what is taken back; all None: all that is
    left. Of a correction, they are what is added, negative or not. `micro_percent` is of the sale as it was counted."""

    target: Target
    kind: AdjustmentKind
    reference: str
    sale_micros: int | None = None
    micro_percent: int | None = None
    revenue_micros: int | None = None
    payout_micros: int | None = None
    currency: str | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SetStatus:
    """A status that is asked for. With a reference it is given once; without, unless it is in force already."""

    target: Target
    status: str
    reference: str | None = None
    reason: str | None = None


Request = Adjust | SetStatus


class Delta(NamedTuple):
    """What is added to sale, revenue and payout: negative for what is taken back."""

    sale_micros: int
    revenue_micros: int
    payout_micros: int


def delta_of(request: Adjust, balance: Balance, rate: Rate | None) -> Delta:
    """What the request comes to. `rate`: what the conversion was priced with, None where that is not known.

    Raises AdjustmentError, also for what would leave less than nothing.
    """
    if request.currency not in (None, balance.currency):
        raise AdjustmentError(f"currency: the conversion's amounts are in {balance.currency}")
    if request.kind is AdjustmentKind.CORRECTION:
        delta = _correction(request, balance)
    else:
        delta = _taken_back(request, balance, rate)
    _check(delta, balance)
    return delta


def is_same(request: Adjust, kind: str, delta: Delta, balance: Balance) -> bool:
    """Whether an adjustment that was made answers the request. What the request leaves open is as it was then."""
    sign = 1 if request.kind is AdjustmentKind.CORRECTION else -1
    asked = (_asked_sale(request, balance), request.revenue_micros, request.payout_micros)
    return kind == request.kind and all(
        wanted is None or sign * wanted == made for wanted, made in zip(asked, delta, strict=True)
    )


def _asked_sale(request: Adjust, balance: Balance) -> int | None:
    if request.micro_percent is None:
        return request.sale_micros
    return money.div_half_even((balance.sale_micros or 0) * request.micro_percent, _WHOLE_MICRO_PERCENT)


def _correction(request: Adjust, balance: Balance) -> Delta:
    delta = Delta(request.sale_micros or 0, request.revenue_micros or 0, request.payout_micros or 0)
    if request.micro_percent is not None:
        raise AdjustmentError("percent: a correction gives amounts")
    if not any(delta):
        raise AdjustmentError("revenue: a correction gives sale_amount, revenue or payout, other than 0")
    if delta.sale_micros and balance.net_sale_micros is None:
        raise AdjustmentError("sale_amount: the conversion has none")
    return delta


def _taken_back(request: Adjust, balance: Balance, rate: Rate | None) -> Delta:
    sale_micros = _asked_sale(request, balance)
    left_micros = balance.net_sale_micros
    if sale_micros is not None and left_micros is None:
        raise AdjustmentError("sale_amount: the conversion has none; leave it out to take back all of it")
    if sale_micros == 0 and not request.revenue_micros and not request.payout_micros:
        raise AdjustmentError(f"{_name(request)}: nothing would be taken back")
    if sale_micros is None and (request.revenue_micros, request.payout_micros) != (None, None):
        sale_micros = 0  # only what is named is taken back
    if sale_micros is None or (sale_micros == left_micros and sale_micros > 0):
        taken = (left_micros or 0, balance.net_revenue_micros, balance.net_payout_micros)
        if not any(taken):
            raise AdjustmentError("kind: nothing is left to be taken back")
    else:
        if left_micros is not None and sale_micros > left_micros:
            raise AdjustmentError(
                f"{_name(request)}: {money.format_micros(sale_micros)} is more than what is left of the sale,"
                f" {money.format_micros(left_micros)}"
            )
        is_priced = request.revenue_micros is None or request.payout_micros is None
        shares = _shares(sale_micros, balance, rate) if sale_micros and is_priced else (0, 0)
        taken = (sale_micros, *shares)
    sale, revenue, payout = taken
    return Delta(
        -sale,
        -(revenue if request.revenue_micros is None else request.revenue_micros),
        -(payout if request.payout_micros is None else request.payout_micros),
    )


def _shares(sale_micros: int, balance: Balance, rate: Rate | None) -> tuple[int, int]:
    """Revenue and payout of a part of the sale: what the price was before less what it is after. Fixed parts stay."""
    if rate is None or not _is_price_of(rate, balance):
        raise AdjustmentError(
            f"sale_amount: what version {balance.goal_version} of goal {balance.goal_id} cost is not known any more;"
            " give revenue and payout too, or leave all three out to take back all of it"
        )
    left_micros = balance.net_sale_micros or 0
    before, after = money.amounts(rate, left_micros), money.amounts(rate, left_micros - sale_micros)
    # Nothing was paid to begin with: the goal is not the publisher's, or a cap was reached.
    payout_micros = before[1] - after[1] if balance.payout_micros else 0
    return before[0] - after[0], payout_micros


def _is_price_of(rate: Rate, balance: Balance) -> bool:
    revenue_micros, payout_micros = money.amounts(rate, balance.sale_micros or 0)
    return revenue_micros == balance.revenue_micros and balance.payout_micros in (payout_micros, 0)


def _check(delta: Delta, balance: Balance) -> None:
    stands = (balance.net_sale_micros or 0, balance.net_revenue_micros, balance.net_payout_micros)
    for name, added, now in zip(("sale_amount", "revenue", "payout"), delta, stands, strict=True):
        if now + added < 0:
            raise AdjustmentError(
                f"{name}: {money.format_micros(-added)} is more than what is left, {money.format_micros(max(now, 0))}"
            )
        if now + added >= money.LIMIT_MICROS:
            raise AdjustmentError(f"{name}: 10^12 or more")


def _name(request: Adjust) -> str:
    return "percent" if request.micro_percent is not None else "sale_amount"
