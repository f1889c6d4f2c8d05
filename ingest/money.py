"""Money, percentages and exchange rates as integers: parsed exactly, computed exactly, rounded half-even once.

Amounts are micros (1/1,000,000 of the currency unit), percentages micro-percent (12.5 % is 12_500_000), exchange
rates nanos (1/1,000,000,000).
"""

from __future__ import annotations

from typing import Final

from ingest.catalog import PayoutOf, Rate, Terms

MICROS: Final = 1_000_000
LIMIT_MICROS: Final = 10**18
"""numeric(18,6): every amount is below it."""

_OF_SALE: Final = PayoutOf.SALE
_NANOS: Final = 1_000_000_000
_MICRO_PERCENTS_IN_ONE: Final = 100 * MICROS
_BLANKS: Final = " \t\r\n\v\f"
_IN_WORDS: Final = {6: "six", 9: "nine"}


class AmountError(ValueError):
    """The text is no such number; the message says what was wrong and is fit for a sender's eyes."""


def _parse(text: str, decimals: int, whole_digits: int) -> int:
    """A plain decimal times 10**decimals. Raises AmountError."""
    text = text.strip(_BLANKS)
    whole, _, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isdigit() and digits.isascii()):
        raise AmountError(_problem(text))
    if len(fraction) > decimals:
        fraction = fraction.rstrip("0")
        if len(fraction) > decimals:
            raise AmountError(f"more than {_IN_WORDS[decimals]} decimals")
    if len(whole) > whole_digits:
        whole = whole.lstrip("0")
        if len(whole) > whole_digits:
            raise AmountError(f"10^{whole_digits} or more")
    return int(whole + fraction.ljust(decimals, "0"))


def _problem(text: str) -> str:
    """What keeps `text` from being a plain decimal."""
    if not text:
        return "empty"
    if text[0] == "-":
        return "negative"
    if "," in text:
        return "use a point as the decimal separator"
    return "expected a plain decimal such as 12.50"


def _format(value: int, decimals: int) -> str:
    whole, fraction = divmod(value, 10**decimals)
    return f"{whole}.{fraction:0{decimals}}".rstrip("0") if fraction else str(whole)


def parse_amount(text: str) -> int:
    """Micros of a plain decimal ("12", "12.5", ".5", "5."): not negative, below 10**12, at most six decimals.

    Zeros beyond the sixth decimal are fine. Raises AmountError.
    """
    return _parse(text, 6, 12)


def format_micros(micros: int) -> str:
    """The shortest decimal: 1990000 is "1.99", 2000000 is "2". `micros` is not negative."""
    return _format(micros, 6)


def parse_percent(text: str) -> int:
    """Micro-percent of a percentage: not negative, below 10,000, at most six decimals. Raises AmountError."""
    return _parse(text, 6, 4)


def format_percent(micro_percent: int) -> str:
    """The shortest decimal: 12500000 is "12.5"."""
    return _format(micro_percent, 6)


def parse_rate_nanos(text: str) -> int:
    """Nanos of an exchange rate: more than 0, below 10**9, at most nine decimals. Raises AmountError."""
    nanos = _parse(text, 9, 9)
    if nanos == 0:
        raise AmountError("must be more than 0")
    return nanos


def format_rate_nanos(rate_nanos: int) -> str:
    """The shortest decimal: 1085000000 is "1.085"."""
    return _format(rate_nanos, 9)


def div_half_even(numerator: int, denominator: int) -> int:
    """The quotient, a tie rounded to the even neighbour. `numerator` >= 0, `denominator` > 0."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def price(terms: Terms, base_micros: int) -> int:
    """Micros of fixed + percent of the base, half-even at the micro. The result may reach LIMIT_MICROS: check it."""
    if not terms.micro_percent:
        return terms.fixed_micros
    return terms.fixed_micros + div_half_even(base_micros * terms.micro_percent, _MICRO_PERCENTS_IN_ONE)


def amounts(rate: Rate, sale_micros: int) -> tuple[int, int]:
    """(revenue, payout) in micros of a sale, 0 where there is none. Each may reach LIMIT_MICROS."""
    revenue_micros = price(rate.revenue, sale_micros)
    base_micros = sale_micros if rate.payout_of is _OF_SALE else revenue_micros
    return revenue_micros, price(rate.payout, base_micros)


def convert(micros: int, rate_nanos: int) -> int:
    """The amount in the other currency, half-even at the micro. The result may reach LIMIT_MICROS: check it."""
    return div_half_even(micros * rate_nanos, _NANOS)
