"""Reading gives back what was written, and no input makes interpretation fail or outgrow its bounds."""

import json
import re
import uuid
from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import quote_plus, unquote_to_bytes, urlencode

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ingest.bodies import Nested
from ingest.macros import is_macro
from ingest.reading import Reading
from ingest.reasons import Reason
from ingest.times import parse_time_ms
from ingest.wire import (
    STANDARD_ALIASES,
    Fault,
    Pairs,
    UnreadableError,
    interpret,
    pairs_of,
    read_body,
    read_bulk,
    read_objects,
    read_queries,
    read_query,
)
from tests.sent import listed

FORM = "application/x-www-form-urlencoded"
FIELDS = sorted(set(STANDARD_ALIASES.values()))
UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")

valid_pairs = st.lists(st.tuples(st.text(max_size=12), st.text(max_size=20)), max_size=8)

any_text = st.text(st.characters(codec=None), max_size=30)
long_text = st.builds(
    lambda piece, times: piece * times, st.text(st.characters(), min_size=1, max_size=3), st.integers(200, 1500)
)
names = st.one_of(
    st.sampled_from(sorted(STANDARD_ALIASES)), st.sampled_from(["own", "tok", "_dropped", "_cut"]), any_text, long_text
)
values = st.one_of(
    any_text,
    long_text,
    any_text.map(Nested),
    st.sampled_from(
        ["{x}", "[[x]]", "%7Bx%7D", "null", "", " ", "approved", "1795428000", "[1]", "2026-11-23T10:00:00Z"]
    ),
)
wild_pairs = st.lists(st.tuples(names, values), max_size=45)
plain_pairs = st.lists(
    st.tuples(
        st.sampled_from([*STANDARD_ALIASES, "order", "lead", "tok", *(f"p{number}" for number in range(8))]),
        st.sampled_from(["a", "1.50", "usd", "Pending", "1790000000", "2026-11-01", "\u00e9", "x" * 255]) | values,
    ),
    max_size=8,
)
own_aliases = st.dictionaries(st.one_of(st.just("own"), names), st.sampled_from(FIELDS), max_size=3)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4), below, max_size=3),
    max_leaves=6,
)


def as_json(pairs: Pairs) -> bytes:
    """An object with the pairs in order, a name twice if it is there twice."""
    return ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs) + "}").encode()


def check_refusal(error: UnreadableError) -> None:
    assert error.status in {400, 413, 415}
    assert error.fault.detail.startswith("body: ")


@given(valid_pairs)
def test_query_form_json_and_bulk_say_the_same(pairs: Pairs) -> None:
    encoded = urlencode(pairs)
    assert read_query(encoded) == pairs
    assert read_query(encoded.encode()) == pairs
    assert pairs_of(read_body(FORM, encoded.encode())) == pairs
    assert pairs_of(read_body("application/json", as_json(pairs))) == pairs
    assert listed(read_bulk("application/json", b"[%b,%b]" % (as_json(pairs), as_json(pairs)))) == [pairs, pairs]
    assert listed(read_bulk("application/x-ndjson", as_json(pairs) + b"\n" + as_json(pairs))) == [pairs, pairs]


@given(st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=5))
def test_any_bytes_survive_a_query(pairs: list[tuple[bytes, bytes]]) -> None:
    raw = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs)
    read = [
        (name.encode("utf-8", "surrogateescape"), value.encode("utf-8", "surrogateescape"))
        for name, value in read_query(raw)
    ]
    assert read == pairs


@given(st.text("%&=+aF02636D3d\n\r\x01\u00e9\udcff", max_size=30))
def test_a_query_is_read_as_the_url_standard_says(raw: str) -> None:
    """https://url.spec.whatwg.org/#concept-urlencoded-parser, by the standard library's decoder."""

    def decoded(text: str) -> str:
        data = text.replace("+", " ").encode("utf-8", "surrogateescape")
        return unquote_to_bytes(data).decode("utf-8", "surrogateescape")

    pieces = [piece.partition("=") for piece in raw.split("&") if piece]
    assert read_query(raw) == [(decoded(name), decoded(value)) for name, _, value in pieces]


@given(
    st.lists(
        st.text('%&=+aF02635CDd"\\{}:, ', max_size=20) | valid_pairs.map(urlencode) | plain_pairs.map(urlencode),
        min_size=1,
        max_size=5,
    )
)
def test_queries_are_read_together_as_each_alone(queries: list[str]) -> None:
    assert [pairs_of(sent) for sent in read_queries(queries)] == [read_query(query) for query in queries]


@given(
    st.lists(st.one_of(plain_pairs, wild_pairs), min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(["order", "lead", "cid", "p1"]), st.sampled_from(FIELDS), max_size=2),
)
def test_layouts_change_nothing(postbacks: list[Pairs], aliases: dict[str, str]) -> None:
    """What is read by the places of its values is what `interpret` says, the first time and every time after."""
    secret_names, click_id_names = frozenset({"tok"}), frozenset({"lead", "order"})
    reading = Reading(aliases, secret_names, click_id_names)
    standard = Reading({}, secret_names, click_id_names)
    for pairs in postbacks * 3:
        fields = dict(pairs)
        if len(fields) < len(pairs) or any(isinstance(value, Nested) for value in fields.values()):
            assert reading.read(pairs) == interpret(pairs, aliases, secret_names=secret_names)
            assert standard.click_ids(pairs)[0] == interpret(pairs).click_id
            continue
        assert reading.read(fields) == interpret(pairs, aliases, secret_names=secret_names)
        own = {name: interpret(pairs, {name: "click_id"}).click_id for name, _ in pairs if name in click_id_names}
        given_own = {name: click_id for name, click_id in own.items() if click_id is not None}
        assert standard.click_ids(fields) == standard.click_ids(pairs) == (interpret(pairs).click_id, given_own)


@given(st.one_of(any_text, st.text("%&=+aF0 \u00e9\udcff", max_size=40), st.binary(max_size=40)))
def test_any_query_is_read_and_interpreted(raw: str | bytes) -> None:
    interpret(read_query(raw))


@given(
    st.sampled_from(["application/json", "application/x-ndjson", FORM, "", "text/plain"]),
    st.one_of(
        st.binary(max_size=60),
        st.text('{}[]",:01.e-\\ntrufals\n', max_size=60).map(str.encode),
        json_values.map(lambda value: json.dumps(value).encode()),
        st.lists(json_values, max_size=3).map(lambda items: "\n".join(json.dumps(item) for item in items).encode()),
    ),
)
def test_any_body_is_read_or_refused(content_type: str, body: bytes) -> None:
    try:
        interpret(read_body(content_type, body))
    except UnreadableError as error:
        check_refusal(error)
    try:
        items = read_bulk(content_type, body)
        objects = read_objects(content_type, body, 10_000)
    except UnreadableError as error:
        check_refusal(error)
        return
    assert len(items) == len(objects)
    for item, mapping in zip(items, objects, strict=True):
        if isinstance(item, Fault):
            assert mapping == item
        else:
            interpret(item)
        orjson.dumps(mapping)


@given(
    st.lists(
        st.sampled_from(
            ['{"a":"1"}', '{"a":"1"},{"b":"2"}', '{"a":"1"', ',"b":"2"}', '{"a":"}', '{x"}', "", "[]", '{"a":1}']
        )
        | st.text('{}",:a1\r', max_size=10),
        max_size=5,
    )
)
def test_each_line_of_ndjson_stands_alone(lines: list[str]) -> None:
    """Whatever they would be together."""

    def read(text: str) -> list[Pairs | Reason]:
        items = listed(read_bulk("application/x-ndjson", text.encode()))
        return [item.reason if isinstance(item, Fault) else item for item in items]

    assert read("\n".join(lines)) == [item for line in lines for item in read(line)]


@given(st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][-+]?[0-9]{1,4})?", fullmatch=True))
def test_a_json_number_keeps_its_text(number: str) -> None:
    assert pairs_of(read_body("application/json", f'{{"n": {number}}}'.encode())) == [("n", number)]
    nested = read_body("application/json", f'{{"n": [{number}]}}'.encode())
    assert nested == [("n", f"[{number}]")]


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=4))
def test_nested_json_is_kept_as_it_was(value: dict[str, object]) -> None:
    body = json.dumps({"n": value}, indent=1).encode()
    assert read_body("application/json", body) == [("n", json.dumps(value, separators=(",", ":"), ensure_ascii=False))]


@given(wild_pairs, own_aliases)
def test_a_postback_is_fit_for_storage_whatever_was_sent(pairs: Pairs, aliases: dict[str, str]) -> None:
    postback = interpret(pairs, aliases, secret_names=frozenset({"tok"}))
    for text in (postback.click_id, postback.goal, postback.txn_id, postback.event_id):
        if text is not None:
            assert text
            assert len(text.encode()) <= 255
            assert not UNFIT.search(text)
    for text in (postback.sale_amount, postback.currency, postback.status):
        if text is not None:
            assert len(text.encode()) <= 258
            assert not UNFIT.search(text)
    if postback.security_token is not None:
        postback.security_token.encode()
    if postback.click_id is None:
        assert postback.fault is not None
    if postback.fault is not None:
        assert postback.fault.detail.split(":")[0] in FIELDS

    params = dict(postback.params)
    assert orjson.loads(orjson.dumps(params)) == params
    assert params.pop("_dropped", 1) > 0  # type: ignore[operator]  # an int, if our note it is
    assert params.pop("_cut", 1) > 0  # type: ignore[operator]
    assert len(params) <= 32 + ("event_time" in params)
    assert params.keys().isdisjoint(
        {"tok", "security_token"} | {name for name in aliases if not UNFIT.search(name)} - {"event_time"}
    )
    for name, value in params.items():
        assert isinstance(value, str)
        assert len(name.encode()) <= 64
        assert len(value.encode()) <= 1024
        assert not UNFIT.search(name + value)


@given(wild_pairs)
def test_no_parameter_disappears_without_a_count(pairs: Pairs) -> None:
    unknown = {name for name, _ in pairs if name not in STANDARD_ALIASES and name.isprintable() and len(name) < 16}
    params = interpret(pairs).params
    kept = unknown & params.keys()
    if kept != unknown:
        assert "_dropped" in params


@given(wild_pairs, st.text("abc", min_size=1, max_size=5), st.integers(0, 50))
def test_an_own_alias_wins_wherever_it_stands(pairs: Pairs, value: str, position: int) -> None:
    others = [(name, said) for name, said in pairs if name != "order"]
    postback = interpret([*others[:position], ("order", value), *others[position:]], {"order": "txn_id"})
    assert postback.txn_id == value


@given(
    st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30)),  # noqa: DTZ001 - the zone is drawn apart
    st.integers(-14 * 60, 14 * 60),
    st.booleans(),
)
def test_times_are_what_datetime_says(moment: datetime, offset_minutes: int, encoded: bool) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(minutes=offset_minutes)))
    text = moment.isoformat()
    expected = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert parse_time_ms(text if encoded else text.replace("+", " ")) == expected
    assert parse_time_ms(str(expected)) == expected
    assert parse_time_ms(f"{expected // 1000}.{expected % 1000:03}") == expected


@given(st.uuids(), st.sampled_from(["{%s}", "[%s]", "<%s>", "%s"]))
def test_no_guid_is_a_macro(guid: uuid.UUID, form: str) -> None:
    for text in (str(guid), guid.hex, str(guid).upper(), guid.hex.upper()):
        assert not is_macro(form % text)


@given(
    st.lists(st.tuples(st.text(':" \\a\t', max_size=3), st.text(':" \\a\t', max_size=4)), max_size=4),
    st.sampled_from([":", " :", ": ", "\n:"]),
)
def test_objects_of_texts_are_read_as_any_other(pairs: Pairs, colon: str) -> None:
    """A number beside them makes the reader take the long way; the same pairs come out."""
    members = ",".join(f"{json.dumps(name)}{colon}{json.dumps(value)}" for name, value in pairs)
    alone, beside = f"{{{members}}}".encode(), f'{{{members}{"," if members else ""}"n":1}}'.encode()
    assert [*pairs_of(read_body("application/json", alone)), ("n", "1")] == pairs_of(
        read_body("application/json", beside)
    )
    if b"\n" not in alone:
        assert listed(read_bulk("application/x-ndjson", alone)) == [pairs]
