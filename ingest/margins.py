"""What is left of the revenue when the payout is paid: as a price of its own, fixed + percent of the sale. Pure.

A payout's percentage of the revenue is one of the revenue's fixed part and one of its percentage, so every rate has
such a margin, whatever the sale. It may be negative, and is exact but for the half-even rounding of what is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from ingest.catalog import PayoutOf
from ingest.catalog_documents import Document
from ingest.catalog_table import CatalogProblem
from ingest.money import format_micros
from storage.rows import RateRow

_ONE: Final = 100_000_000
"""100 % in micro-percent."""


@dataclass(frozen=True, slots=True)
class Margin:
    """`fixed_micros` + `micro_percent` of the sale. `share_micro_percent`: of the revenue, where that is the same for
    every sale; None where it depends on it, or there is no revenue."""

    fixed_micros: Fraction
    micro_percent: Fraction
    share_micro_percent: Fraction | None


def margin_of(rate: RateRow) -> Margin:
    """The rate's margin."""
    part = Fraction(rate.payout_micro_percent, _ONE)
    fixed = Fraction(rate.revenue_fixed_micros - rate.payout_fixed_micros)
    percent = Fraction(rate.revenue_micro_percent)
    if rate.payout_of == PayoutOf.REVENUE:
        fixed -= rate.revenue_fixed_micros * part
        percent -= rate.revenue_micro_percent * part
    else:
        percent -= rate.payout_micro_percent
    revenue_fixed, revenue_percent = rate.revenue_fixed_micros, rate.revenue_micro_percent
    share = None
    if revenue_fixed and not revenue_percent and not percent:
        share = fixed / revenue_fixed * _ONE
    elif revenue_percent and not revenue_fixed and not fixed:
        share = percent / revenue_percent * _ONE
    elif revenue_fixed and revenue_percent and fixed / revenue_fixed == percent / revenue_percent:
        share = fixed / revenue_fixed * _ONE
    return Margin(fixed, percent, share)


def margin_document(rate: RateRow) -> Document:
    """The margin as texts: `fixed`, `percent` (of the sale), `share` (percent of the revenue, or None)."""
    margin = margin_of(rate)
    share = margin.share_micro_percent
    return {
        "fixed": _signed(margin.fixed_micros),
        "percent": _signed(margin.micro_percent),
        "share": None if share is None else _signed(share),
    }


def payout_warnings(rates: Sequence[RateRow]) -> Iterator[CatalogProblem]:
    """Where a payout exceeds its revenue, and for which sales. Nothing is wrong with that but the money."""
    for index, rate in enumerate(rates):
        margin = margin_of(rate)
        fixed, percent = margin.fixed_micros, margin.micro_percent
        if fixed >= 0 and percent >= 0:
            continue
        if fixed <= 0 and percent <= 0:
            when = ""
        else:
            sale = _signed(-fixed * _ONE / percent)
            when = f" for sales {'below' if fixed < 0 else 'above'} {sale}"
        yield CatalogProblem(f"rates[{index}].payout", f"is more than the revenue{when}")


def _signed(value: Fraction) -> str:
    rounded = round(value)  # half-even
    return f"-{format_micros(-rounded)}" if rounded < 0 else format_micros(rounded)
