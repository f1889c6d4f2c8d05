"""The payload line, against an encoder that has no fast path and a decoder written from Postgres' documentation."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records import COLUMNS, Record, encode, escape

LOG_ID = "01890000-0000-7000-8000-000000000001"
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["\\N", "\\.", "\\", "\\\\", "\t", "\r\n", "a\\tb", "\\x41", "'", '"', "é\u2028\U0001f600", ""]
)
UNESCAPED = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


def decode(line: bytes) -> dict[str, str | None]:
    """What Postgres reads from a line: columns between tabs, `\\N` null, backslash sequences."""
    columns: list[str | None] = []
    for column in line.decode().split("\t"):
        if column == "\\N":
            columns.append(None)
            continue
        characters = iter(column)
        columns.append("".join(UNESCAPED[next(characters)] if c == "\\" else c for c in characters))
    return dict(zip(COLUMNS, columns, strict=True))


@given(reason=st.none() | ANY_TEXT, click_id=ANY_TEXT, txn_id=st.none() | ANY_TEXT, value=ANY_TEXT)
def test_any_text_is_read_back(reason: str | None, click_id: str, txn_id: str | None, value: str) -> None:
    params: dict[str, object] = {value: value, "n": 1}
    record = Record(
        log_id=LOG_ID, received_us=1, reason=reason, click_id=click_id, txn_id=txn_id, goal_value=value, params=params
    )
    line = encode(record)
    assert b"\n" not in line
    assert b"\r" not in line
    columns = decode(line)
    assert (columns["reason"], columns["click_id"], columns["txn_id"], columns["goal_value"]) == (
        reason,
        click_id,
        txn_id,
        value,
    )
    assert orjson.loads(columns["params"] or "") == params


def test_every_column_has_its_place() -> None:
    values = {
        "log_id": LOG_ID,
        "received_us": 2,
        "reason": "a reason",
        "goal_value": "install",
        "click_id": "click",
        "txn_id": "",
        "conversion_id": "6507a5c0-f400-8abc-8000-000000000001",
        "status": "approved",
        "country": "US",
        "currency": "USD",
        "original_currency": "EUR",
        "remote_ip": "::1",
    }
    numbers = {name: 100 + i for i, name in enumerate(COLUMNS) if name not in values and name != "params"}
    record = Record(**values, **numbers, params={"a": "\\"})  # type: ignore[arg-type]  # one dict of mixed values
    expected = {name: str(value) for name, value in {**values, **numbers}.items()} | {"params": '{"a":"\\\\"}'}
    assert decode(encode(record)) == expected


@pytest.mark.parametrize("name", [name for name in COLUMNS if Record.__annotations__[name] in {"str", "str | None"}])
@pytest.mark.parametrize("text", ["a\tb", "\\N", "\n", "\r"])
def test_every_text_is_escaped(name: str, text: str) -> None:
    record = Record(**{"log_id": LOG_ID, "received_us": 1, "params": {}, name: text})  # type: ignore[arg-type]  # mixed
    line = encode(record)
    assert b"\n" not in line
    assert b"\r" not in line
    assert decode(line)[name] == text


def test_what_is_missing_is_null_and_what_is_empty_is_not() -> None:
    columns = decode(encode(Record(log_id=LOG_ID, received_us=0, click_id="", sale_micros=0, params={})))
    assert columns["click_id"] == ""
    assert columns["sale_micros"] == "0"
    others = {"log_id", "received_us", "click_id", "sale_micros", "params"}
    assert all(columns[name] is None for name in COLUMNS if name not in others)


def test_a_null_mark_that_was_sent_is_text() -> None:
    assert escape("\\N") == "\\\\N"
    assert b"\t\\\\N\t" in encode(Record(log_id=LOG_ID, received_us=0, txn_id="\\N", params={}))


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode(Record(log_id=LOG_ID, received_us=0, txn_id="\ud800", params={}))
