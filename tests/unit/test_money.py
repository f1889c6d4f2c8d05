"""Amounts, percentages and rates: what is read, what is refused and why, and the rounding."""

import pytest

from ingest.catalog import Terms
from ingest.money import (
    LIMIT_MICROS,
    MICROS,
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


@pytest.mark.parametrize(
    ("text", "micros"),
    [
        ("12", 12 * MICROS),
        ("12.5", 12_500_000),
        (".5", 500_000),
        ("5.", 5 * MICROS),
        ("0", 0),
        ("0.000001", 1),
        ("1.9900000000000", 1_990_000),
        ("000012.50", 12_500_000),
        ("0" * 5000 + "7", 7 * MICROS),
        ("999999999999.999999", LIMIT_MICROS - 1),
        (" \t12.5\r\n", 12_500_000),
    ],
)
def test_plain_decimals_are_amounts(text: str, micros: int) -> None:
    assert parse_amount(text) == micros


PLAIN = "expected a plain decimal such as 12.50"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "empty"),
        ("  ", "empty"),
        (".", PLAIN),
        ("NaN", PLAIN),
        ("nan", PLAIN),
        ("Infinity", PLAIN),
        ("-Infinity", "negative"),
        ("1e400", PLAIN),
        ("1e2", PLAIN),
        ("1E-2", PLAIN),
        ("1,99", "use a point as the decimal separator"),
        ("1,234.56", "use a point as the decimal separator"),
        ("-5", "negative"),
        ("-0", "negative"),
        ("+5", PLAIN),
        ("1.2.3", PLAIN),
        ("1 000", PLAIN),
        ("1_000", PLAIN),
        ("0x10", PLAIN),
        ("$5", PLAIN),
        ("\uff11\uff12", PLAIN),
        ("\u0661", PLAIN),
        ("\u00b2", PLAIN),
        ("1.0000001", "more than six decimals"),
        ("0.00000010", "more than six decimals"),
        ("1000000000000", "10^12 or more"),
        ("9" * 5000, "10^12 or more"),
        ("{amount}", PLAIN),
        ("12\x00", PLAIN),
        ("12\udcff", PLAIN),
    ],
)
def test_anything_else_is_refused_with_the_problem(text: str, problem: str) -> None:
    with pytest.raises(AmountError) as refusal:
        parse_amount(text)
    assert str(refusal.value) == problem


@pytest.mark.parametrize(
    ("micros", "text"),
    [(1_990_000, "1.99"), (2_000_000, "2"), (0, "0"), (1, "0.000001"), (LIMIT_MICROS - 1, "999999999999.999999")],
)
def test_amounts_are_written_in_the_shortest_way(micros: int, text: str) -> None:
    assert format_micros(micros) == text


def test_percentages() -> None:
    assert parse_percent("12.5") == 12_500_000
    assert parse_percent("9999.999999") == 9_999_999_999
    assert format_percent(12_500_000) == "12.5"
    with pytest.raises(AmountError, match=r"^10\^4 or more$"):
        parse_percent("10000")
    with pytest.raises(AmountError, match=r"^more than six decimals$"):
        parse_percent("0.0000001")
    with pytest.raises(AmountError, match=r"^negative$"):
        parse_percent("-1")


def test_exchange_rates() -> None:
    assert parse_rate_nanos("1.0850") == 1_085_000_000
    assert parse_rate_nanos("0.000000001") == 1
    assert format_rate_nanos(1_085_000_000) == "1.085"
    with pytest.raises(AmountError, match=r"^must be more than 0$"):
        parse_rate_nanos("0.000")
    with pytest.raises(AmountError, match=r"^more than nine decimals$"):
        parse_rate_nanos("1.0000000001")
    with pytest.raises(AmountError, match=r"^10\^9 or more$"):
        parse_rate_nanos("1000000000")


@pytest.mark.parametrize(
    ("numerator", "denominator", "quotient"),
    [(0, 7, 0), (1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (1, 3, 0), (2, 3, 1), (10**30 + 1, 2, 5 * 10**29)],
)
def test_a_tie_goes_to_the_even_neighbour(numerator: int, denominator: int, quotient: int) -> None:
    assert div_half_even(numerator, denominator) == quotient


def test_a_price_is_fixed_and_percent_together() -> None:
    assert price(Terms(), 10 * MICROS) == 0
    assert price(Terms(fixed_micros=2 * MICROS), 10 * MICROS) == 2 * MICROS
    assert price(Terms(micro_percent=12_500_000), 10 * MICROS) == 1_250_000
    assert price(Terms(fixed_micros=500_000, micro_percent=12_500_000), 10 * MICROS) == 1_750_000
    # Half a micro of percent: to even, the fixed part aside.
    assert price(Terms(fixed_micros=1, micro_percent=50_000_000), 1) == 1
    assert price(Terms(fixed_micros=1, micro_percent=50_000_000), 3) == 3


def test_an_exchange_rounds_half_to_even() -> None:
    assert convert(19_990_000, 1_085_000_000) == 21_689_150
    assert convert(1, 500_000_000) == 0
    assert convert(3, 500_000_000) == 2
