"""What pairs mean: names, aliases, macros, the rules of each field, and what is kept of the rest."""

import hashlib

import msgspec
import orjson
import pytest

from ingest.reasons import Reason
from ingest.wire import (
    STANDARD_ALIASES,
    Fault,
    Pairs,
    Postback,
    interpret,
    names_for,
    read_body,
    read_query,
)

NOTHING = Postback(None, None, None, None, None, None, None, None, None, {}, None)
MISSING_CLICK_ID = Fault(Reason.MISSING_CLICK_ID, "click_id: missing")


def said(raw: str) -> Postback:
    return interpret(read_query(raw))


def bad(detail: str) -> Fault:
    return Fault(Reason.BAD_PARAMETER, detail)


def test_everything_at_once() -> None:
    postback = said(
        "click_id=c1&goal=Purchase&txn_id=T%201&sale_amount=19.99&currency=usd&security_token=s3cret"
        "&event_id=e1&event_time=1795428000&status=Approved&sub1=x&sub2="
    )
    assert postback == Postback(
        click_id="c1",
        goal="Purchase",
        txn_id="T 1",
        sale_amount="19.99",
        currency="USD",
        security_token="s3cret",
        event_id="e1",
        event_ms=1_795_428_000_000,
        status="approved",
        params={"sub1": "x", "sub2": ""},
        fault=None,
    )


def test_nothing_at_all() -> None:
    assert interpret([]) == msgspec.structs.replace(NOTHING, fault=MISSING_CLICK_ID)


@pytest.mark.parametrize(("name", "field"), STANDARD_ALIASES.items())
def test_each_accepted_name_gives_its_field(name: str, field: str) -> None:
    value = "approved" if field == "status" else "2026-11-23T10:00:00Z" if field == "event_time" else "ABC"
    postback = interpret([(name, value)])
    read = postback.event_ms if field == "event_time" else getattr(postback, field)
    assert read == (1_795_428_000_000 if field == "event_time" else value)
    assert postback.params == {}


def test_the_accepted_names_are_those_of_the_contract() -> None:
    by_field: dict[str, set[str]] = {}
    for name, field in STANDARD_ALIASES.items():
        by_field.setdefault(field, set()).add(name)
    assert by_field == {
        "click_id": {"click_id", "clickid", "transaction_id", "cid", "subid"},
        "goal": {"goal", "goal_value", "event"},
        "txn_id": {"txn_id", "order_id", "action_id", "txid"},
        "sale_amount": {"sale_amount", "amount", "sum"},
        **{name: {name} for name in ("currency", "security_token", "event_id", "event_time", "status")},
    }


# Twice -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", sorted(set(STANDARD_ALIASES.values())))
def test_one_name_with_two_values_is_a_fault(field: str) -> None:
    postback = interpret([("click_id", "c"), (field, "pending"), (field, "rejected")])
    assert postback.fault == bad(f"{field}: given twice with different values")


def test_two_names_of_a_field_with_two_values_are_a_fault_and_the_first_is_kept() -> None:
    postback = said("click_id=c&txn_id=1&order_id=2")
    assert postback.fault == bad("txn_id: given twice with different values")
    assert postback.txn_id == "1"


@pytest.mark.parametrize(
    "raw",
    ["click_id=c&txn_id=1&txn_id=1", "click_id=c&txn_id=1&order_id=+1+", "click_id=c&txid=&order_id={x}&txn_id=1"],
)
def test_the_same_value_twice_and_missing_ones_are_fine(raw: str) -> None:
    postback = said(raw)
    assert (postback.fault, postback.txn_id) == (None, "1")


def test_a_json_name_given_twice_is_a_fault_too() -> None:
    body = b'{"click_id":"c","txn_id":"1","txn_id":"2"}'
    assert interpret(read_body("application/json", body)).fault == bad("txn_id: given twice with different values")


# Own aliases -----------------------------------------------------------------------------------------------------


def test_own_names_are_laid_over_the_standard_ones() -> None:
    names = names_for({"order": "txn_id", "event": "status"})
    assert (names["order"], names["event"], names["txn_id"]) == ("txn_id", "status", "txn_id")


@pytest.mark.parametrize("raw", ["click_id=c&order=1&txn_id=2", "click_id=c&txn_id=2&order=1"])
def test_an_own_alias_wins_and_the_standard_name_is_kept_in_params(raw: str) -> None:
    postback = interpret(read_query(raw), {"order": "txn_id"})
    assert (postback.fault, postback.txn_id, postback.params) == (None, "1", {"txn_id": "2"})


@pytest.mark.parametrize("raw", ["click_id=c&txn_id=2", "click_id=c&order=&txn_id=2", "click_id=c&order={o}&txn_id=2"])
def test_without_an_own_value_the_standard_name_counts(raw: str) -> None:
    postback = interpret(read_query(raw), {"order": "txn_id"})
    assert (postback.fault, postback.txn_id, postback.params) == (None, "2", {})


def test_an_own_alias_may_give_a_standard_name_another_meaning() -> None:
    postback = interpret(read_query("click_id=c&event=approved&goal=g"), {"event": "status"})
    assert (postback.goal, postback.status, postback.params) == ("g", "approved", {})


def test_an_own_alias_may_single_out_one_of_the_standard_names() -> None:
    postback = interpret(read_query("click_id=c&txn_id=1&order_id=2"), {"order_id": "txn_id"})
    assert (postback.fault, postback.txn_id, postback.params) == (None, "2", {"txn_id": "1"})


def test_an_own_alias_with_two_values_is_a_fault() -> None:
    postback = interpret(read_query("click_id=c&order=1&order=2"), {"order": "txn_id"})
    assert postback.fault == bad("txn_id: given twice with different values")


# Secrets ---------------------------------------------------------------------------------------------------------


def test_secrets_stay_out_of_params_and_of_the_representation() -> None:
    raw = "click_id=c&security_token=s3cret&tok=s3cret&other_tok=s3cret"
    for aliases in ({}, {"tok": "security_token"}):
        postback = interpret(read_query(raw), aliases, secret_names=frozenset({"tok", "other_tok"}))
        assert postback.security_token == "s3cret"
        assert postback.params == {}
        assert "s3cret" not in repr(postback)
        assert "click_id='c'" in repr(postback)


def test_a_secret_given_twice_is_not_told() -> None:
    postback = said("click_id=c&security_token=s3cret&security_token=0ther")
    assert postback.fault == bad("security_token: given twice with different values")


def test_an_overlong_or_broken_token_is_kept_for_the_comparison() -> None:
    assert said("click_id=c&security_token=" + "x" * 300).security_token == "x" * 300
    token = said("click_id=c&security_token=%ff").security_token
    assert token == "\ufffd"
    assert hashlib.sha256(token.encode()).digest()


# Macros ----------------------------------------------------------------------------------------------------------

MACROS = [
    "{txn_id}",
    "{{x.y}}",
    "${x}",
    "%7Btxn_id%7D",
    "%7btxn_id%7d",
    "%24%7Btxn_id%7D",
    "%7B%7Bx.y%7D%7D",
    "[txn_id]",
    "[[x]]",
    "<x>",
    "%%X%%",
    "%X%",
    "%5Bx%5D",
    "{offer|name:1}",
    "{_}",
    "{deadbeef}",
    "null",
    "NULL",
    "undefined",
    "TRANSACTION_ID",
    "TXN_ID",
    "CLICK_ID",
    "CLICKID",
    "ORDER_ID",
    "ACTION_ID",
    "SALE_AMOUNT",
    "GOAL_VALUE",
    "EVENT_ID",
    "EVENT_TIME",
    "SECURITY_TOKEN",
    " {txn_id} ",
]
NO_MACROS = [
    "{3F2504E0-4F89-11D3-9A0C-0305E82C3301}",
    "{3F2504E04F8911D39A0C0305E82C3301}",
    "{abcdef0123456789}",
    "{}",
    "{1}",
    "{a b}",
    "{a",
    "a}",
    "x{a}",
    "{a}x",
    "{" + "a" * 65 + "}",
    "[]",
    "<b",
    "%",
    "%%",
    "100%",
    "%zz",
    "{{a}",
    "[a]]",
    "txn_id",
    "nullable",
    "GOAL",
    "EVENT",
    "AMOUNT",
    "SUM",
    "CID",
    "SUBID",
    "STATUS",
    "CURRENCY",
]


@pytest.mark.parametrize("value", MACROS)
def test_an_unexpanded_macro_is_missing_in_every_field(value: str) -> None:
    for field in set(STANDARD_ALIASES.values()):
        postback = interpret([("click_id", "c"), (field, value)])
        if field == "click_id":
            postback = interpret([(field, value)])
            assert postback == msgspec.structs.replace(NOTHING, fault=MISSING_CLICK_ID)
        else:
            assert postback == msgspec.structs.replace(NOTHING, click_id="c")


@pytest.mark.parametrize("value", NO_MACROS)
def test_what_is_no_macro_is_a_value(value: str) -> None:
    postback = interpret([("click_id", "c"), ("txn_id", value)])
    assert (postback.txn_id, postback.fault) == (value, None)


def test_other_parameters_keep_their_macros() -> None:
    assert said("click_id=c&sub1={sub1}").params == {"sub1": "{sub1}"}


# Text fields -----------------------------------------------------------------------------------------------------

TEXT_FIELDS = ["click_id", "goal", "txn_id", "event_id"]


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize("value", ["x" * 255, "\u00e9" * 127, " a b ", "\u00a0x", "\u200b", "\U0001f600", "\\N"])
def test_text_that_fits(field: str, value: str) -> None:
    postback = interpret([("click_id", "c"), (field, value)] if field != "click_id" else [(field, value)])
    assert (getattr(postback, field), postback.fault) == (value.strip(" "), None)


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize(
    ("raw", "wrong", "kept"),
    [
        ("x" * 256, "longer than 255 bytes", "x" * 255),
        ("x" * 4096, "longer than 255 bytes", "x" * 255),
        ("%C3%A9" * 128, "longer than 255 bytes", "\u00e9" * 127),
        ("a%00b", "holds a control character", "a\ufffdb"),
        ("a%09b", "holds a control character", "a\ufffdb"),
        ("a%7F", "holds a control character", "a\ufffd"),
        ("%C3%A9%1f", "holds a control character", "\u00e9\ufffd"),
        ("%ff%fe", "not valid UTF-8", "\ufffd\ufffd"),
        ("a%C3", "not valid UTF-8", "a\ufffd"),
        ("%ff" * 4096, "not valid UTF-8", "\ufffd" * 85),
        ("%00" * 4096, "longer than 255 bytes", "\ufffd" * 85),
    ],
)
def test_text_that_does_not_fit_is_a_fault_and_a_clean_copy(field: str, raw: str, wrong: str, kept: str) -> None:
    postback = said(f"{field}={raw}")
    assert postback.fault == bad(f"{field}: {wrong}")
    assert getattr(postback, field) == kept


def test_a_lone_surrogate_from_json_is_not_valid() -> None:
    postback = interpret(read_body("application/json", b'{"click_id":"a\\ud800"}'))
    assert (postback.fault, postback.click_id) == (bad("click_id: not valid UTF-8"), "a\ufffd")


def test_a_missing_click_id_is_the_last_thing_wrong() -> None:
    assert said("goal=x").fault == MISSING_CLICK_ID
    assert said("click_id=+&goal=x").fault == MISSING_CLICK_ID
    assert said("goal=%00").fault == bad("goal: holds a control character")


def test_garbage_percent_escapes_stay_as_they_are() -> None:
    assert said("click_id=a%zz%4").click_id == "a%zz%4"


# Money, status, JSON ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "1,99", "-5", "1.0000001", "9" * 20])
def test_an_amount_is_text_until_the_decision(value: str) -> None:
    postback = interpret([("click_id", "c"), ("sale_amount", f" {value} ")])
    assert (postback.sale_amount, postback.fault) == (value, None)


def test_a_json_number_keeps_its_digits() -> None:
    body = b'{"click_id":1,"sale_amount":19.90,"txn_id":12345678901234567890123}'
    postback = interpret(read_body("application/json", body))
    assert (postback.click_id, postback.sale_amount) == ("1", "19.90")
    assert postback.txn_id == "12345678901234567890123"


def test_an_amount_is_never_cut_into_another_amount() -> None:
    postback = said("click_id=c&sale_amount=" + "0" * 300 + "5")
    assert postback.sale_amount == "0" * 255 + "\ufffd"
    assert said("click_id=c&sale_amount=1%ff").sale_amount == "1\ufffd"


@pytest.mark.parametrize(
    ("value", "currency"),
    [("usd", "USD"), (" Eur ", "EUR"), ("dollars", "DOLLARS"), ("\u0131nr", "\u0131nr"), ("u\u00df", "u\u00df")],
)
def test_a_currency_is_upper_cased_where_that_makes_no_other(value: str, currency: str) -> None:
    assert interpret([("click_id", "c"), ("currency", value)]).currency == currency


@pytest.mark.parametrize("value", ["approved", "PENDING", " Rejected ", "cancelled"])
def test_a_status_is_read_without_regard_to_case(value: str) -> None:
    postback = interpret([("click_id", "c"), ("status", value)])
    assert (postback.status, postback.fault) == (value.strip().lower(), None)


@pytest.mark.parametrize(("value", "kept"), [("canceled", "canceled"), ("1", "1"), ("a\0", "a\ufffd")])
def test_another_status_is_a_fault(value: str, kept: str) -> None:
    postback = interpret([("click_id", "c"), ("status", value)])
    assert postback.fault == bad("status: expected approved, pending, rejected or cancelled")
    assert postback.status == kept


@pytest.mark.parametrize("field", sorted(set(STANDARD_ALIASES.values()) - {"event_time"}))
@pytest.mark.parametrize("value", ['{"a": 1}', "[]", "[null]", '["x"]'])
def test_a_nested_value_for_a_field_is_a_fault(field: str, value: str) -> None:
    postback = interpret(read_body("application/json", f'{{"{field}": {value}}}'.encode()))
    assert postback.fault == bad(f"{field}: expected a plain value")


def test_other_nested_values_are_kept_as_json_text() -> None:
    body = b'{"click_id":"c","items":[{"sku": "x", "price": 1.10}],"event_time":[1]}'
    postback = interpret(read_body("application/json", body))
    assert postback.fault is None
    assert postback.params == {"items": '[{"sku":"x","price":1.10}]', "event_time": "[1]"}
    assert {type(value) for value in postback.params.values()} == {str}


# event_time ------------------------------------------------------------------------------------------------------

TEN = 1_795_428_000_000


@pytest.mark.parametrize(
    ("value", "event_ms"),
    [
        ("2026-11-23T10:00:00Z", TEN),
        ("2026-11-23t10:00:00z", TEN),
        ("2026-11-23 10:00:00", TEN),
        ("2026-11-23T10:00:00.123456789Z", TEN + 123),
        ("2026-11-23T10:00:00.5+00:00", TEN + 500),
        ("2026-11-23T12:00:00+02:00", TEN),
        ("2026-11-23 12:00:00 02:00", TEN),
        ("2026-11-23 12:00:00 +02:00", TEN),
        ("2026-11-23T12:00:00+0200", TEN),
        ("2026-11-23T04:30:00-05:30", TEN),
        ("1795428000", TEN),
        ("1795428000.25", TEN + 250),
        ("1795428000.", TEN),
        ("1795428000250", TEN + 250),
        ("2000-01-01T00:00:00Z", 946_684_800_000),
        ("2100-12-31T23:59:59.999Z", 4_133_980_799_999),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ],
)
def test_event_times(value: str, event_ms: int) -> None:
    postback = interpret([("click_id", "c"), ("event_time", value)])
    assert (postback.event_ms, postback.params, postback.fault) == (event_ms, {}, None)


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "1999-12-31T23:59:59Z",
        "2101-01-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:60:00Z",
        "2026-11-23T10:00:61Z",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00:00+02:60",
        "2026-11-23",
        "0000-00-00 00:00:00",
        "0",
        "-1795428000",
        "1e9",
        "1795428000250000",
        "9" * 500,
        "\uff11795428000",
    ],
)
def test_an_unreadable_event_time_is_kept_and_harms_nothing(value: str) -> None:
    postback = interpret([("click_id", "c"), ("event_time", value)])
    assert (postback.event_ms, postback.params, postback.fault) == (None, {"event_time": value}, None)


def test_a_blank_where_a_plus_was_is_an_offset() -> None:
    assert said("click_id=c&event_time=2026-11-23T12:00:00+02:00").event_ms == TEN


# params ----------------------------------------------------------------------------------------------------------


def test_at_most_32_parameters_are_kept_and_the_rest_counted() -> None:
    pairs: Pairs = [(f"p{n}", str(n)) for n in range(10_000)]
    postback = interpret([*pairs, ("click_id", "c")])
    assert postback.params == {**dict(pairs[:32]), "_dropped": 9_968}
    assert (postback.click_id, postback.fault) == ("c", None)


def test_a_name_given_twice_keeps_its_first_value() -> None:
    assert said("click_id=c&a=1&a=2&%C3%A9=1&%C3%A9=2").params == {"a": "1", "\u00e9": "1"}
    full = "&".join(f"p{n}={n}" for n in range(32))
    assert "_dropped" not in said(f"click_id=c&{full}&p3=again").params


def test_long_names_and_values_are_cut_and_counted() -> None:
    params = said(f"click_id=c&a={'x' * 1025}&{'n' * 65}=1&b={'%C3%A9' * 600}&c={'x' * 1024}").params
    assert params == {"a": "x" * 1024, "n" * 64: "1", "b": "\u00e9" * 512, "c": "x" * 1024, "_cut": 3}
    assert said("click_id=c&event_time=" + "x" * 2000).params == {"event_time": "x" * 1024, "_cut": 1}


def test_unfit_characters_are_replaced() -> None:
    params = said("click_id=c&a=%00%09%7f&b=%ff&c%00=%C3%A9&d=%ed%a0%80").params
    assert params == {"a": "\ufffd\ufffd\ufffd", "b": "\ufffd", "c\ufffd": "\u00e9", "d": "\ufffd\ufffd\ufffd"}
    assert orjson.loads(orjson.dumps(params)) == params


def test_names_that_start_with_an_underscore_are_kept_but_for_the_notes() -> None:
    assert said("click_id=c&_x=1&_dropped=5&_cut=6").params == {"_x": "1", "_dropped": 2}
