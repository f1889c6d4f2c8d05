"""The arithmetic of money against `decimal` and `fractions`."""

from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.catalog import Terms
from ingest.money import (
    LIMIT_MICROS,
    AmountError,
    convert,
    div_half_even,
    format_micros,
    format_percent,
    format_rate_nanos,
    parse_amount,
    parse_percent,
    parse_rate_nanos,
    price,
)

EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
MICRO = Decimal("0.000001")

amounts = st.integers(0, LIMIT_MICROS - 1)
micro_percents = st.integers(0, 10_000 * 10**6 - 1)
rates = st.integers(1, 10**18 - 1)


def unit(micros: int) -> Decimal:
    return EXACT.multiply(Decimal(micros), MICRO)


def to_micros(amount: Decimal) -> Decimal:
    return EXACT.divide(amount.quantize(MICRO, context=EXACT), MICRO)


@given(st.integers(0, 10**40), st.integers(1, 10**20))
def test_division_rounds_as_fractions_do(numerator: int, denominator: int) -> None:
    assert div_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(amounts, st.integers(1, 10**9).map(lambda half: 2 * half))
def test_a_tie_is_rounded_as_fractions_do(quotient: int, denominator: int) -> None:
    numerator = quotient * denominator + denominator // 2
    assert div_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(amounts, micro_percents, amounts)
def test_a_price_is_what_decimal_says(fixed: int, micro_percent: int, base: int) -> None:
    share = EXACT.divide(EXACT.multiply(unit(base), unit(micro_percent)), Decimal(100))
    assert price(Terms(fixed, micro_percent), base) == fixed + to_micros(share)


@given(amounts, rates)
def test_an_exchange_is_what_decimal_says(micros: int, rate_nanos: int) -> None:
    rate = EXACT.divide(Decimal(rate_nanos), Decimal(10**9))
    assert convert(micros, rate_nanos) == to_micros(EXACT.multiply(unit(micros), rate))


@given(amounts, micro_percents, rates)
def test_what_is_written_is_read_back(micros: int, micro_percent: int, rate_nanos: int) -> None:
    assert parse_amount(format_micros(micros)) == micros
    assert Decimal(format_micros(micros)) == unit(micros)
    assert parse_percent(format_percent(micro_percent)) == micro_percent
    assert parse_rate_nanos(format_rate_nanos(rate_nanos)) == rate_nanos


@settings(max_examples=300)
@given(
    st.one_of(
        st.text(max_size=30),
        st.text("0123456789.", max_size=25),
        st.text("0123456789.,-+eE _naifNI", max_size=12),
        st.decimals(allow_nan=True, allow_infinity=True).map(str),
    )
)
def test_an_amount_is_read_exactly_or_refused(text: str) -> None:
    try:
        micros = parse_amount(text)
    except AmountError:
        return
    assert 0 <= micros < LIMIT_MICROS
    assert unit(micros) == Decimal(text.strip())


@given(st.from_regex(r"[0-9]{1,12}(\.[0-9]{0,6}0{0,5})?", fullmatch=True))
def test_every_amount_that_fits_the_column_is_read(text: str) -> None:
    assert text.isascii()
    assert unit(parse_amount(text)) == Decimal(text)
