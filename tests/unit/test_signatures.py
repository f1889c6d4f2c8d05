"""Signatures: what they cover, when they count, and that they come through the spool."""

from __future__ import annotations

import re
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.addresses import parse_networks
from ingest.arrival import Arrival
from ingest.bodies import Nested, Pairs, read_query
from ingest.catalog import Advertiser, Snapshot
from ingest.decide import Decision, Rules, decide
from ingest.reasons import Reason
from ingest.recorder import read_postback, signature_of
from ingest.signatures import HEADER, WINDOW_MS, Route, Signed, problem, signed_parameters, signed_request
from ingest.spool_records import HEADER as SPOOL_HEADER
from ingest.spool_records import decode_segment, encode_arrival
from ingest.wire import Fault
from tests import signing
from tests.catalogs import CLICKED_MS, DAY_MS, advertiser, campaign, click, goal, receipt, snapshot
from tests.signing import OTHER_SECRET, SECRET

DOCUMENT = Path(__file__).parents[2] / "docs" / "security.md"
KEYS = (SECRET.encode(),)
T = 1_790_000_060
NOW_MS = T * 1000
QUERY = "click_id=click-1&goal=install&sub1=%C3%BC+x"
BODY = b'{"click_id": "click-1"}'


def signed(value: str, **changes: object) -> Signed:
    request: dict[str, object] = {
        "route": Route.ONE,
        "query": QUERY,
        "idempotency_key": None,
        "media_type": "application/octet-stream",
        "body": b"",
    }
    return signed_request(value, **(request | changes))  # type: ignore[arg-type]


def of_header(value: str, **changes: object) -> str | None:
    return problem(signed(value, **changes), KEYS, NOW_MS, WINDOW_MS)


# In the header -------------------------------------------------------------------------------------------------------


def test_a_right_signature_counts() -> None:
    assert of_header(signing.header(T, QUERY)) is None
    whole = signing.header(T, QUERY, key="k1", media_type="application/json", body=BODY)
    assert of_header(whole, idempotency_key="k1", media_type="application/json", body=BODY) is None
    bulk = signing.header(T, route="postbacks", media_type="application/json", body=BODY)
    assert of_header(bulk, route=Route.BULK, query="", media_type="application/json", body=BODY) is None


@pytest.mark.parametrize(
    "change",
    [
        {"query": QUERY + "&"},
        {"query": QUERY.replace("install", "Install")},
        {"query": ""},
        {"route": Route.BULK},
        {"idempotency_key": "k2"},
        {"idempotency_key": None},
        {"media_type": "application/x-www-form-urlencoded"},
        {"body": BODY + b" "},
        {"body": b""},
    ],
)
def test_nothing_can_be_changed(change: dict[str, object]) -> None:
    value = signing.header(T, QUERY, key="k1", media_type="application/json", body=BODY)
    right: dict[str, object] = {"idempotency_key": "k1", "media_type": "application/json", "body": BODY}
    assert of_header(value, **right) is None
    assert of_header(value, **(right | change)) == "signature: not accepted"


def test_lines_cannot_be_shifted() -> None:
    """What stands at the end of one part is not taken for the beginning of the next."""
    one = signed("t=1,v1=00", query="a", idempotency_key="b")
    other = signed("t=1,v1=00", query="ab", idempotency_key=None)
    assert one.message != other.message


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "signature: cannot be read"),
        ("v1=" + "0" * 64, "signature: cannot be read"),
        (f"t={T}", "signature: cannot be read"),
        (f"t={T},v1=", "signature: cannot be read"),
        (f"t={T},v1={'0' * 63}", "signature: cannot be read"),
        (f"t={T},v1={'g' * 64}", "signature: cannot be read"),
        (f"t={T},v1={'٠' * 64}", "signature: cannot be read"),
        (f"t={T},v1={' 0' * 32}", "signature: cannot be read"),
        (f"t={T},v2={'0' * 64}", "signature: cannot be read"),
        (f"t=-{T},v1={'0' * 64}", "signature: cannot be read"),
        (f"t={T}.5,v1={'0' * 64}", "signature: cannot be read"),
        (f"t={'9' * 5000},v1={'0' * 64}", "signature: cannot be read"),
        ("t=0,v1=" + "0" * 64, "signature: cannot be read"),
        (f"t={T},v1={'0' * 64}", "signature: not accepted"),
    ],
)
def test_what_is_no_signature(value: str, said: str) -> None:
    assert of_header(value) == said
    assert problem(None, KEYS, NOW_MS, WINDOW_MS) == "signature: missing"


def test_spelling_does_not_matter_nor_what_else_is_there() -> None:
    t, v1 = signing.header(T, QUERY).split(",")
    for value in (
        f"{v1},{t}",
        f" {t} , {v1} ",
        f"{t},v0=abc,{v1}",
        f"{t},v1={'0' * 64},{v1}",
        f"{t},{v1.upper()[:2].lower()}{v1[2:].upper()}",
    ):
        assert of_header(value) is None, value
    assert of_header(f"{t}," + f"v1={'0' * 64}," * 4 + v1) == "signature: not accepted", "four are looked at"


def test_the_time_must_be_near() -> None:
    window_s = WINDOW_MS // 1000
    for age_s, said in (
        (window_s, None),
        (window_s + 1, "signature: too old"),
        (-window_s, None),
        (-window_s - 1, "signature: its time is in the future"),
    ):
        t = T - age_s
        assert of_header(signing.header(t, QUERY)) == said
    old = signed(signing.header(T - 60, QUERY))
    assert problem(old, KEYS, NOW_MS, 59_999) == "signature: too old"
    assert problem(old, KEYS, NOW_MS, 60_000) is None


def test_any_live_secret_counts() -> None:
    both = (SECRET.encode(), OTHER_SECRET.encode())
    for secret in (SECRET, OTHER_SECRET):
        assert problem(signed(signing.header(T, QUERY, secret=secret)), both, NOW_MS, WINDOW_MS) is None
    assert problem(signed(signing.header(T, QUERY, secret="a third")), both, NOW_MS, WINDOW_MS) is not None


# In parameters -------------------------------------------------------------------------------------------------------

SENT = {"click_id": "click-1", "goal": "install", "sub1": "ü & ~+/%", "Sub2": ""}


def of_pairs(pairs: Pairs, key: str | None = None) -> str | None:
    return problem(signed_parameters(pairs, key), KEYS, NOW_MS, WINDOW_MS)


def test_signed_parameters_count_in_any_order() -> None:
    pairs = list(signing.parameters(T, SENT).items())
    assert of_pairs(pairs) is None
    assert of_pairs(pairs[::-1]) is None
    assert of_pairs(list(SENT.items())) == "signature: missing"


@pytest.mark.parametrize(
    "damage",
    [
        lambda pairs: [(name, value + "x" if name == "goal" else value) for name, value in pairs],
        lambda pairs: [(name.replace("sub1", "sub3"), value) for name, value in pairs],
        lambda pairs: [pair for pair in pairs if pair[0] != "Sub2"],
        lambda pairs: [*pairs, ("status", "approved")],
        lambda pairs: [*pairs, ("goal", "install")],
        lambda pairs: [(name, str(T + 1) if name == "timestamp" else value) for name, value in pairs],
        lambda pairs: [(name, "0" * 64 if name == "signature" else value) for name, value in pairs],
    ],
)
def test_a_changed_parameter_does_not(damage: object) -> None:
    pairs = list(signing.parameters(T, SENT).items())
    assert callable(damage)
    assert of_pairs(damage(pairs)) == "signature: not accepted"


def test_what_parameters_cannot_sign() -> None:
    pairs = list(signing.parameters(T, SENT).items())
    unreadable = "signature: cannot be read"
    assert of_pairs([*pairs, ("signature", "0" * 64)]) == unreadable
    assert of_pairs([*pairs, ("timestamp", str(T))]) == unreadable
    assert of_pairs([pair for pair in pairs if pair[0] != "timestamp"]) == unreadable
    assert of_pairs([*pairs, ("basket", Nested("[1]"))]) == unreadable
    assert of_pairs([*pairs, ("sub3", "\ud800")]) == unreadable
    assert of_pairs(pairs, "k1") == unreadable


def test_those_of_one_name_stay_in_order() -> None:
    def message(*pairs: tuple[str, str]) -> bytes:
        found = signed_parameters([*pairs, ("timestamp", "1"), ("signature", "")], None)
        assert found is not None
        return found.message

    assert message(("a", "2"), ("b", "0"), ("a", "1")) == b"a=2&a=1&b=0&timestamp=1"
    assert message(("a", "1"), ("b", "0"), ("a", "2")) == b"a=1&a=2&b=0&timestamp=1"


@given(st.lists(st.tuples(st.text(), st.text())))
def test_what_is_signed_can_be_read_back(pairs: Pairs) -> None:
    """The signed text holds every parameter, and nothing that could be read in another way."""
    given_pairs = [pair for pair in pairs if pair[0] not in {"signature", "timestamp"}]
    try:
        [text.encode() for pair in given_pairs for text in pair]
    except UnicodeEncodeError:
        return
    found = signed_parameters([*given_pairs, ("timestamp", "1"), ("signature", "")], None)
    assert found is not None
    assert re.fullmatch(r"[A-Za-z0-9._~%=&-]*", found.message.decode())
    assert sorted(read_query(found.message)) == sorted([*given_pairs, ("timestamp", "1")])


# The document --------------------------------------------------------------------------------------------------------


def test_the_document_signs_as_the_program_does() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert HEADER in text
    secret = "8f0c4e5a9b2d4c7e-example"
    query = re.search(r"query='([^']+)'", text)
    assert query
    assert signing.header(1_790_000_000, query[1], secret=secret) in text
    sent = {"click_id": "demo-us-1", "goal": "purchase", "txn_id": "A 17/ü", "sale_amount": "49.99"}
    found = signing.parameters(1_790_000_000, sent, secret=secret)
    assert found["signature"] in text
    pairs = list(found.items())
    covered = signed_parameters(pairs, None)
    assert covered is not None
    assert covered.message.decode() in text
    assert problem(covered, (secret.encode(),), 1_790_000_000_000, 0) is None
    assert set(re.findall(r"`(signature: [^`]+)`", text)) == {
        "signature: missing",
        "signature: cannot be read",
        "signature: too old",
        "signature: its time is in the future",
        "signature: not accepted",
    }


# The decision --------------------------------------------------------------------------------------------------------

INSTALL = goal()


def catalog(of: Advertiser) -> Snapshot:
    return snapshot(campaign(INSTALL, default=INSTALL, of=of))


def decided(
    of: Advertiser, *pairs: tuple[str, str], header: str | None = None, ip: str | None = "192.0.2.7"
) -> Decision:
    """As the recorder does it."""
    world = catalog(of)
    at = receipt(after_ms=NOW_MS - CLICKED_MS, remote_ip=ip)
    arrival = Arrival(at, [("click_id", "click-1"), *pairs], signed=None if header is None else signed(header))
    postback = read_postback(arrival, "click-1", click(), world)
    proof = signature_of(arrival, click(), world)
    return decide(at, postback, click(), world, Rules(window_ms=90 * DAY_MS), signed=proof)


def reason(decision: Decision) -> str | None:
    return decision.record.reason


SIGNING = advertiser(signing_secrets=[SECRET])


def test_an_advertiser_that_signs() -> None:
    assert reason(decided(SIGNING)) == Reason.BAD_SIGNATURE
    assert reason(decided(SIGNING, header=signing.header(T, QUERY))) is None
    assert reason(decided(SIGNING, header=signing.header(T, QUERY, secret=OTHER_SECRET))) == Reason.BAD_SIGNATURE
    sent = signing.parameters(T, {"click_id": "click-1", "sub1": "x"})
    pairs = [pair for pair in sent.items() if pair[0] != "click_id"]
    right = decided(SIGNING, *pairs)
    assert reason(right) is None
    assert right.record.params == {"sub1": "x", "timestamp": str(T)}, "the signature is not kept"
    wrong = decided(SIGNING, *pairs, ("sub2", "y"))
    assert reason(wrong) == Reason.BAD_SIGNATURE
    assert wrong.record.params == {
        "sub1": "x",
        "sub2": "y",
        "timestamp": str(T),
        "_detail": "signature: not accepted",
    }


def test_an_advertiser_that_does_not_sign_may_be_sent_signatures() -> None:
    found = decided(advertiser(), ("signature", "whatever"), header="nonsense")
    assert reason(found) is None
    assert found.record.params == {}


def test_the_wrong_signature_of_a_header_is_not_mended_by_parameters() -> None:
    sent = signing.parameters(T, {"click_id": "click-1"})
    pairs = [pair for pair in sent.items() if pair[0] != "click_id"]
    assert reason(decided(SIGNING, *pairs)) is None
    assert reason(decided(SIGNING, *pairs, header="nonsense")) == Reason.BAD_SIGNATURE


def test_address_token_and_signature_come_before_campaign_and_goal() -> None:
    strict = advertiser(networks=["203.0.113.0/24"], tokens=["token"], signing_secrets=[SECRET])
    nothing = ("goal", "no such goal")
    header = signing.header(T, QUERY)
    inside = "203.0.113.9"
    assert reason(decided(strict, nothing)) == Reason.ADDRESS_NOT_ALLOWED
    assert reason(decided(strict, nothing, ip=inside)) == Reason.BAD_TOKEN
    token = ("security_token", "token")
    assert reason(decided(strict, nothing, token, ip=inside)) == Reason.BAD_SIGNATURE
    assert reason(decided(strict, nothing, token, ip=inside, header=header)) == Reason.UNKNOWN_GOAL
    assert reason(decided(strict, token, ip=inside, header=header)) is None


@pytest.mark.parametrize(
    ("ip", "is_allowed"),
    [
        ("203.0.113.0", True),
        ("203.0.113.255", True),
        ("203.0.114.0", False),
        ("2001:db8::7", True),
        ("2001:db8::8", False),
        (None, False),
    ],
)
def test_addresses(ip: str | None, is_allowed: bool) -> None:
    of = advertiser(networks=["203.0.113.0/24", "2001:db8::7/128"])
    found = decided(of, ip=ip)
    assert (reason(found) is None) == is_allowed
    if not is_allowed:
        assert found.refusal is not None
        assert (found.refusal.reason, found.refusal.detail) == (
            Reason.ADDRESS_NOT_ALLOWED,
            "address: not one of the advertiser's",
        )
    assert parse_networks(["203.0.113.0/24"])


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(SIGNING)
    assert SECRET not in repr(catalog(SIGNING))


# The spool -----------------------------------------------------------------------------------------------------------


def arrival(**changes: object) -> Arrival:
    of = Arrival(receipt(), [("click_id", "click-1"), ("n", Nested("[1]"))], "key", Fault(Reason.BAD_PARAMETER, "x: y"))
    return replace(of, **changes)


def test_a_signature_comes_through_the_spool() -> None:
    for one in (arrival(), arrival(signed=signed(signing.header(T, QUERY))), arrival(signed=signed("nonsense"))):
        (back,) = decode_segment(SPOOL_HEADER + encode_arrival(one))
        assert back == one


def test_a_record_of_before_is_still_read() -> None:
    """One with six fields, as versions wrote it that knew no signatures."""
    one = arrival()
    body = msgspec.msgpack.decode(encode_arrival(one)[8:])
    assert len(body) == 7
    old = msgspec.msgpack.encode(body[:6])
    framed = len(old).to_bytes(4, "little") + crc32(old).to_bytes(4, "little") + old
    (back,) = decode_segment(SPOOL_HEADER + framed)
    assert back == one
