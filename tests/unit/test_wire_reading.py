"""Queries and bodies as pairs: what is read, what is refused, and one bad item harming no other."""

import json

import pytest

from ingest.bodies import Nested
from ingest.reasons import Reason
from ingest.wire import (
    MAX_ITEMS,
    Fault,
    UnreadableError,
    pairs_of,
    read_body,
    read_bulk,
    read_objects,
    read_query,
)
from tests.sent import listed

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
NDJSON = "application/x-ndjson"


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        ("", []),
        ("&&", []),
        ("a=1&b=2", [("a", "1"), ("b", "2")]),
        ("a", [("a", "")]),
        ("a=", [("a", "")]),
        ("=1", [("", "1")]),
        ("a=b=c", [("a", "b=c")]),
        ("a=1&a=2", [("a", "1"), ("a", "2")]),
        ("a=1;b=2", [("a", "1;b=2")]),
        ("a=x+y%2Bz", [("a", "x y+z")]),
        ("a%20b=%26%3d", [("a b", "&=")]),
        ("a=%C3%A9", [("a", "\u00e9")]),
        ("a=caf%c3%a9%20x", [("a", "caf\u00e9 x")]),
        ("a=\u00e9", [("a", "\u00e9")]),
        (b"a=\xc3\xa9", [("a", "\u00e9")]),
        ("a=%zz%4&b=100%&c=%", [("a", "%zz%4"), ("b", "100%"), ("c", "%")]),
        ("a=%zz%41", [("a", "%zzA")]),
        ("a=%ff", [("a", "\udcff")]),
        (b"a=\xff", [("a", "\udcff")]),
        ("a=%ed%a0%80", [("a", "\udced\udca0\udc80")]),
        ("a=%00", [("a", "\0")]),
    ],
)
def test_queries(raw: bytes | str, pairs: list[tuple[str, str]]) -> None:
    assert read_query(raw) == pairs


def test_ten_thousand_parameters_are_read() -> None:
    assert len(read_query("&".join(f"p{n}={n}" for n in range(10_000)))) == 10_000


@pytest.mark.parametrize("content_type", [FORM, f"{FORM}; charset=UTF-8", FORM.upper()])
def test_forms(content_type: str) -> None:
    assert pairs_of(read_body(content_type, b"click_id=abc&goal=a+b")) == [("click_id", "abc"), ("goal", "a b")]


@pytest.mark.parametrize("content_type", ["", FORM, JSON, "text/plain", "multipart/form-data; boundary=x"])
def test_no_body_is_no_pairs(content_type: str) -> None:
    assert pairs_of(read_body(content_type, b"")) == []


@pytest.mark.parametrize("content_type", [JSON, "application/json; charset=utf-8", "application/vnd.api+json"])
def test_json_objects(content_type: str) -> None:
    assert pairs_of(read_body(content_type, b'{"click_id": "abc", "n": 1}')) == [("click_id", "abc"), ("n", "1")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("19.90", "19.90"),
        ("1e400", "1e400"),
        ("-0", "-0"),
        ("-0.0", "-0.0"),
        ("9" * 5000, "9" * 5000),
        ("0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        ("true", "true"),
        ("false", "false"),
        ('"\\u00e9\\ud83d\\ude00"', "\u00e9\U0001f600"),
        ('"\u00e9"', "\u00e9"),
        ('"\\u0000"', "\0"),
        ('"\\ud800"', "\ud800"),
        ('{ "a" : [1.50, "x\\n", null, true, {}] }', '{"a":[1.50,"x\\n",null,true,{}]}'),
        ("[ ]", "[]"),
    ],
)
def test_json_values_are_kept_as_text(value: str, text: str) -> None:
    pairs = pairs_of(read_body(JSON, f'{{"v": {value}}}'.encode()))
    assert pairs == [("v", text)]
    assert isinstance(pairs[0][1], Nested) == (value[0] in "{[")


def test_json_null_is_missing() -> None:
    assert pairs_of(read_body(JSON, b'{"a": null, "b": ""}')) == [("b", "")]


def test_a_name_given_twice_in_json_is_seen() -> None:
    assert pairs_of(read_body(JSON, b'{"a": 1, "a": 2}')) == [("a", "1"), ("a", "2")]


def test_a_byte_order_mark_is_no_harm() -> None:
    assert pairs_of(read_body(JSON, b'\xef\xbb\xbf{"a":"b"}')) == [("a", "b")]


@pytest.mark.parametrize(
    ("content_type", "body", "status", "detail"),
    [
        (JSON, b"[]", 400, "body: not a JSON object"),
        (JSON, b'"abc"', 400, "body: not a JSON object"),
        (JSON, b"null", 400, "body: not a JSON object"),
        (JSON, b"1", 400, "body: not a JSON object"),
        (JSON, b" ", 400, "body: not valid JSON at character 2"),
        (JSON, b"{", 400, "body: not valid JSON at character 2"),
        (JSON, b'{"a":1} x', 400, "body: not valid JSON at character 9"),
        (JSON, b'{"a":01}', 400, "body: not valid JSON at character 7"),
        (JSON, b'{"a":"\x01"}', 400, "body: not valid JSON at character 7"),
        (JSON, b"{'a':1}", 400, "body: not valid JSON at character 2"),
        (JSON, b"click_id=abc", 400, "body: not valid JSON at character 1"),
        (JSON, b'{"a":NaN}', 400, "body: not valid JSON: NaN is not JSON"),
        (JSON, b'{"a":-Infinity}', 400, "body: not valid JSON: -Infinity is not JSON"),
        (JSON, b'{"a":"\xff"}', 400, "body: not valid UTF-8"),
        (JSON, b'{"a":"\xed\xa0\x80"}', 400, "body: not valid UTF-8"),
        (JSON, b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "body: nested too deeply"),
        (JSON, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "body: nested too deeply"),
        ("text/plain", b"x", 415, None),
        ("", b"click_id=abc", 415, None),
        ("multipart/form-data; boundary=x", b"--x", 415, None),
        ("application/xml", b"<a/>", 415, None),
        (NDJSON, b"{}", 415, None),
    ],
)
def test_unreadable_bodies(content_type: str, body: bytes, status: int, detail: str | None) -> None:
    with pytest.raises(UnreadableError) as error:
        read_body(content_type, body)
    assert error.value.status == status
    expected = detail or f"body: this content type is not read; send {FORM} or application/json"
    assert error.value.fault == Fault(Reason.BAD_PARAMETER, expected)


def check_too_deep(error: UnreadableError) -> None:
    assert (error.status, error.fault) == (400, Fault(Reason.BAD_PARAMETER, "body: nested too deeply"))


@pytest.mark.parametrize("depth", range(100, 1001, 50))
def test_any_depth_is_read_or_refused(depth: int) -> None:
    nested = "[" * depth + "]" * depth
    body = f'{{"a":{nested}}}'.encode()
    if depth == 100:
        assert pairs_of(read_body(JSON, body)) == [("a", nested)]
    try:
        assert pairs_of(read_body(JSON, body)) == [("a", nested)]
    except UnreadableError as error:
        check_too_deep(error)


NOT_AN_OBJECT = Fault(Reason.BAD_PARAMETER, "item: not a JSON object")


def test_a_bulk_array_keeps_the_order_and_its_bad_items_to_themselves() -> None:
    body = b'[{"a": 1.10}, 5, {"b": null}, [], null, {"a": {"x": 1}}]'
    assert listed(read_bulk(JSON, body)) == [
        [("a", "1.10")],
        NOT_AN_OBJECT,
        [],
        NOT_AN_OBJECT,
        NOT_AN_OBJECT,
        [("a", '{"x":1}')],
    ]


@pytest.mark.parametrize("content_type", [NDJSON, "application/ndjson", "application/jsonl", "text/x-ndjson"])
def test_ndjson_keeps_the_order_and_its_bad_lines_to_themselves(content_type: str) -> None:
    deep = b"[" * 100_000
    lines = [b'{"a":1}', b"", b"{oops", b" \r", b'{"a":"\xff"}', b"[1]", deep, b'{"a":2}\r']
    assert listed(read_bulk(content_type, b"\n".join(lines))) == [
        [("a", "1")],
        Fault(Reason.BAD_PARAMETER, "item: not valid JSON at character 2"),
        Fault(Reason.BAD_PARAMETER, "item: not valid UTF-8"),
        NOT_AN_OBJECT,
        Fault(Reason.BAD_PARAMETER, "item: nested too deeply"),
        [("a", "2")],
    ]


def test_a_single_object_is_a_bulk_of_one() -> None:
    assert listed(read_bulk(JSON, b'{"a": 1}')) == [[("a", "1")]]


def test_an_empty_bulk() -> None:
    assert listed(read_bulk(JSON, b"[]")) == []
    assert listed(read_bulk(NDJSON, b"")) == []
    assert listed(read_bulk(NDJSON, b"\n\n")) == []


def test_an_item_nested_too_deeply_to_be_kept_as_text_stands_alone() -> None:
    depths = range(100, 991, 10)
    body = "[" + ",".join(f'{{"a":{"[" * depth + "]" * depth}}}' for depth in depths) + "]"
    try:
        items = read_bulk(JSON, body.encode())
    except UnreadableError as error:
        check_too_deep(error)
        return
    assert len(items) == len(depths)
    assert items[0] == [("a", "[" * 100 + "]" * 100)]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [(JSON, b"[" + b"{}," * MAX_ITEMS + b"{}]"), (NDJSON, b"{}\n" * (MAX_ITEMS + 1))],
)
def test_too_many_items(content_type: str, body: bytes) -> None:
    with pytest.raises(UnreadableError) as error:
        read_bulk(content_type, body)
    assert error.value.status == 413
    assert error.value.fault.detail == "body: more than 10000 items; send several requests"


def test_as_many_items_as_allowed() -> None:
    assert len(read_bulk(NDJSON, b"{}\n" * MAX_ITEMS)) == MAX_ITEMS


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        (JSON, b"", 400),
        (JSON, b"5", 400),
        (JSON, b'[{"a":1},]', 400),
        (JSON, b'{"a":1}\n{"a":2}', 400),
        (JSON, b"[" * 100_000, 400),
        (FORM, b"a=1", 415),
        ("", b"[]", 415),
    ],
)
def test_unreadable_bulks(content_type: str, body: bytes, status: int) -> None:
    with pytest.raises(UnreadableError) as error:
        read_bulk(content_type, body)
    assert error.value.status == status
    assert error.value.fault.detail.startswith("body: ")


def test_objects() -> None:
    one = {"click_id": "abc", "campaign_id": 100, "clicked_at": 1795428000.5, "x": None, "y": {"z": 1}}
    mapped = {"click_id": "abc", "campaign_id": "100", "clicked_at": "1795428000.5", "y": '{"z":1}'}
    assert read_objects(JSON, json.dumps(one).encode(), 5) == [mapped]
    assert read_objects(JSON, json.dumps([one, one]).encode(), 5) == [mapped, mapped]
    assert read_objects(NDJSON, json.dumps(one).encode() + b"\noops", 5) == [
        mapped,
        Fault(Reason.BAD_PARAMETER, "item: not valid JSON at character 1"),
    ]
    with pytest.raises(UnreadableError) as error:
        read_objects(JSON, json.dumps([one] * 6).encode(), 5)
    assert error.value.status == 413


def test_objects_are_valid_unicode_and_say_a_thing_once() -> None:
    body = b'[{"a":1,"a":1},{"a":1,"a":2},{"a":"\\ud800"},{"\\udfff":"x"}]'
    assert read_objects(JSON, body, 5) == [
        {"a": "1"},
        Fault(Reason.BAD_PARAMETER, "a: given twice with different values"),
        Fault(Reason.BAD_PARAMETER, "a: not valid UTF-8"),
        Fault(Reason.BAD_PARAMETER, "\ufffd: not valid UTF-8"),
    ]
