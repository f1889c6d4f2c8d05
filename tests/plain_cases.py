"""Catalogs, clicks and postbacks that are plain, nearly plain or not at all: what compiled code is held against."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Final, TypeVar
from urllib.parse import quote

from hypothesis import strategies as st

from dedup.port import Entry, Verdict
from ingest.addresses import Addresses
from ingest.arrival import Arrival, Receipt, Unread, UnreadLine, Waiting, read_all
from ingest.bodies import Fault, Nested, Sent, plain, read_fields
from ingest.catalog import (
    Campaign,
    Snapshot,
)
from ingest.clicks import pack_click, unpack_click
from ingest.decide import Rules
from ingest.outcome import Outcome
from ingest.plain import Plain
from ingest.reasons import Reason
from ingest.recorder import all_click_ids, choose_click_id, decide_arrival, entry_of, outcome_of
from ingest.signatures import Signed
from ingest.times import EARLIEST_MS, END_MS
from ingest.wire import STANDARD_ALIASES
from tests.catalogs import CLICKED_MS
from tests.plain_catalogs import catalog_of, usually
from tests.plain_values import (
    ADDRESSES,
    AMOUNTS,
    CLICK_IDS,
    CURRENCIES,
    MACROS,
    MIN_AGE_MS,
    ODD_VALUES,
    OWN_NAMES,
    PACKED,
    PARAM_NAMES,
    RAW_JSON,
    RAW_VALUES,
    SAID_GOALS,
    STATUSES,
    TIMES,
    TOKENS,
    WINDOW_MS,
    WORDS,
)

T = TypeVar("T")
Packed = dict[str, bytes | None]


@dataclass(frozen=True)
class Case:
    """All that decisions on some postbacks depend on."""

    catalog: Snapshot
    rules: Rules
    packed: Packed
    arrivals: list[Waiting]


def mostly(usual: T, *others: T, share: int = 9) -> st.SearchStrategy[T]:
    """Or nothing would be plain, nearly always."""
    return st.sampled_from([usual] * share * max(1, len(others) // 2) + list(others))


# What is said of one, by the rules ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ruled:
    """What the rules say. `entry` None: a click that cannot be looked up, or one that makes the rules fail."""

    click_ids: Sequence[str]
    entry: Entry | None = None
    is_refused: bool = True
    outcome: Callable[[Verdict], Outcome] | None = None


def ruled(waiting: Waiting, packed: Mapping[str, bytes | None], catalog: Snapshot, rules: Rules) -> Ruled:
    """As the recorder asks them, one at a time."""
    (arrival,) = read_all([waiting])
    standard, own = found = catalog.reading(None).click_ids(arrival.sent)
    click_ids = all_click_ids(found)
    try:
        clicks = {one: unpack_click(data) if (data := packed[one]) else None for one in click_ids if one in packed}
    except (ValueError, UnicodeDecodeError):
        return Ruled(click_ids)
    click_id = choose_click_id(own, standard, clicks, catalog) if own else standard
    if click_id is not None and click_id not in clicks:
        return Ruled(click_ids)
    click = None if click_id is None else clicks[click_id]
    decision = decide_arrival(arrival, click_id, click, catalog, rules)
    return Ruled(
        click_ids,
        entry_of(decision),
        decision.refusal is not None,
        lambda verdict: outcome_of(decision, verdict),
    )


def check(plain_code: Plain, case: Case) -> list[Entry | None]:
    """Reads and decides all, and holds it against the rules. Returns what was decided."""
    sheet = plain_code.read(case.arrivals)
    entries = sheet.decide(case.packed)
    assert len(entries) == len(sheet.click_ids) == len(case.arrivals)
    assert sheet.rest == [place for place, entry in enumerate(entries) if entry is None]
    outcomes = {verdict: sheet.outcomes([verdict] * len(entries)) for verdict in Verdict}
    for place, (arrival, click_id, entry) in enumerate(zip(case.arrivals, sheet.click_ids, entries, strict=True)):
        if click_id is None:
            assert entry is None
            continue
        by_rule = ruled(arrival, case.packed, case.catalog, case.rules)
        assert set(by_rule.click_ids) == {click_id}
        if entry is None:
            continue
        assert not by_rule.is_refused, by_rule
        assert entry == by_rule.entry
        assert by_rule.outcome is not None
        for verdict in Verdict:
            assert outcomes[verdict][place] == by_rule.outcome(verdict)
    return entries


# Postbacks ------------------------------------------------------------------------------------------------------------

SPOILS: Final = ("value", "name", "double", "order", "many", "long")
visible = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=12)
odd_values = st.sampled_from([*ODD_VALUES, *MACROS, *WORDS]) | visible | st.text(max_size=6) | st.sampled_from(WORDS)
made_amounts = st.integers(0, 10**12 - 1).map(str) | st.builds(
    lambda whole, part: f"{whole}.{part}", st.integers(0, 10**13), st.integers(0, 10**7)
)
made_times = st.builds(
    lambda at, finer: str(at // finer), st.integers(EARLIEST_MS - 2, END_MS + 2), st.sampled_from([1, 1000])
)
FIELD_VALUES: Final[Mapping[str, st.SearchStrategy[str]]] = {
    "click_id": st.sampled_from(CLICK_IDS),
    "goal": st.sampled_from(SAID_GOALS),
    "txn_id": st.sampled_from(["t1", "T1", "u:1", "x" * 255]) | visible,
    "sale_amount": mostly("19.99", *AMOUNTS, share=1) | made_amounts,
    "currency": mostly("USD", *CURRENCIES, share=1),
    "security_token": mostly(TOKENS[0], TOKENS[1], "wrong", "", TOKENS[0].upper()),
    "event_id": st.sampled_from(["e1", "E1", "x" * 255]) | visible,
    "event_time": mostly("1790000000", *TIMES, share=1) | made_times,
    "status": mostly("approved", *STATUSES, share=1),
}
names_of = {
    field: st.sampled_from([name for name, standard in STANDARD_ALIASES.items() if standard == field])
    for field in STANDARD_ALIASES.values()
}


@st.composite
def own_pairs(draw: st.DrawFn, of: Campaign, click_id: str) -> list[tuple[str, str]]:
    """What its advertiser may send: one click_id, mostly, and what else counts; then params."""
    own = {field: name for name, field in of.advertiser.aliases.items()}
    chosen = draw(st.lists(st.sampled_from([*FIELD_VALUES][1:]), max_size=4, unique=True))
    if of.default_goal is None:
        chosen.append("goal")
    if draw(mostly(True, False, share=2)):
        chosen.append("sale_amount")
    if len(of.advertiser.token_digests) > 0 and draw(mostly(True, False, share=15)):
        chosen.append("security_token")
    if draw(mostly(True, False, share=15)):
        chosen.insert(0, "click_id")
    pairs: list[tuple[str, str]] = []
    for field in dict.fromkeys(chosen):
        name = own[field] if field in own and draw(mostly(True, False, share=3)) else draw(names_of[field])
        if field == "click_id":
            value = click_id
        elif field == "goal" and draw(mostly(True, False)):
            value = draw(st.sampled_from([one.value for one in of.goals.values()]))
            value = draw(st.sampled_from([value, value.upper(), value.swapcase()]))
        elif field == "sale_amount" and draw(st.booleans()):
            value = "19.99"
        else:
            value = draw(FIELD_VALUES[field])
        pairs.append((name, value))
    params = draw(st.lists(st.sampled_from(PARAM_NAMES[:12]), max_size=3, unique=True))
    values = mostly("abc", "", "x y", "München", "{m}", "x" * 255, 'q"', "x" * 256, share=3)
    return pairs + [(name, draw(values)) for name in params]


@st.composite
def pairs_of_one(draw: st.DrawFn, of: Campaign, click_id: str) -> list[tuple[str, str]]:
    """The same, spoilt now and then."""
    pairs = draw(own_pairs(of, click_id))
    for spoil in draw(st.just([]) | st.lists(st.sampled_from(SPOILS), max_size=2)):
        place = draw(st.integers(0, len(pairs)))
        if spoil == "many":
            pairs += [(f"n{number}", "v") for number in range(draw(st.sampled_from([28, 33, 61, 64, 65])))]
        elif spoil == "long":
            pairs += [(f"{number:064}", "v") for number in range(draw(st.sampled_from([31, 60, 63])))]
        elif spoil == "order":
            pairs = draw(st.permutations(pairs))
        elif spoil == "name" or not pairs:
            name = draw(st.sampled_from([*PARAM_NAMES, *STANDARD_ALIASES, *OWN_NAMES]) | st.text(max_size=4))
            pairs.insert(place, (name, draw(mostly("abc", *CLICK_IDS, *ODD_VALUES[:4], share=1))))
        else:
            name, value = pairs[place % len(pairs)]
            new = draw(odd_values)
            if spoil == "double":
                pairs.insert(place, (name, draw(st.sampled_from([value, new]))))
            else:
                pairs[place % len(pairs)] = name, new
    return pairs


@st.composite
def queries(draw: st.DrawFn, pairs: list[tuple[str, str]]) -> str:
    """A query in visible ASCII, spelt in one of many ways."""
    safe = draw(st.sampled_from(["", "{}[]<>$()!*'~:/?@,;|", '="\\']))
    lower = draw(mostly(False, True, share=3))

    def spell(text: str) -> str:
        spelt = quote(text.encode("utf-8", "surrogatepass"), safe=safe)
        return spelt.replace("%20", "+") if lower else spelt

    pieces = [f"{spell(name)}={spell(value)}" for name, value in pairs]
    for _ in range(draw(mostly(0, 1, 2, share=5))):
        place = draw(st.integers(0, len(pieces)))
        if draw(st.booleans()) and pieces:
            place %= len(pieces)
            pieces[place] = pieces[place].partition("=")[0] + "=" + draw(st.sampled_from(RAW_VALUES))
        else:
            pieces.insert(
                place,
                draw(st.sampled_from(["", "a", "=", "=b", "a%3Db=c", "a%41=b", "a+b=c", "a%=b", "%00=b", "a==b"])),
            )
    return "&".join(pieces)


@st.composite
def lines(draw: st.DrawFn, pairs: list[tuple[str, str]]) -> bytes:
    """A line of NDJSON, spelt in one of many ways, and not always JSON."""
    is_ascii = draw(mostly(False, True, share=4))
    comma, colon = draw(mostly((",", ":"), (", ", ": "), ("\t,\r", " :\t"), share=2))
    members = [
        f"{dumps(name, ensure_ascii=is_ascii)}{colon}{dumps(value, ensure_ascii=is_ascii)}" for name, value in pairs
    ]
    line = ("{" + comma.join(members) + "}").encode("utf-8", "surrogatepass")
    for _ in range(draw(mostly(0, 1, 2, share=4))):
        at = draw(st.integers(0, len(line)))
        line = line[:at] + draw(st.sampled_from(RAW_JSON)) + line[at + draw(st.integers(0, 1)) :]
    return line


@st.composite
def receipts(draw: st.DrawFn) -> Receipt:
    """Received at and about the edges of windows and of least ages, at any microsecond."""
    edges = (WINDOW_MS, 1000, MIN_AGE_MS, 0)
    after_ms = draw(mostly(1500, *[edge + off for edge in edges for off in (-1, 0, 1)], share=4))
    id_ = draw(st.binary(min_size=16, max_size=16))
    us = (CLICKED_MS + after_ms) * 1000 + draw(st.sampled_from([0, 1, 500, 999]))
    return Receipt(id_, us, draw(st.sampled_from(ADDRESSES)))


@st.composite
def arrivals(draw: st.DrawFn, catalog: Snapshot, packed: Packed) -> Waiting:
    """As the advertiser of some click's campaign may send it."""
    click_id = draw(st.sampled_from(CLICK_IDS))
    of = catalog.campaigns[
        101 if (packed.get(click_id) or b"").startswith(b"101,") and 101 in catalog.campaigns else 100
    ]
    pairs = draw(pairs_of_one(of, click_id))
    receipt = draw(receipts())
    kind = draw(st.sampled_from(["unread", "unread", "mapping", "mapping", "line", "line", "read", "pairs"]))
    sent: Sent
    match kind:
        case "unread":
            return Unread(receipt, draw(queries(pairs)))
        case "line":
            signed = draw(mostly(None, Signed(b"", (), 0), share=12))
            return UnreadLine(receipt, draw(lines(pairs)), draw(mostly(None, "k", "", share=12)), signed)
        case "read":
            sent = read_fields(draw(queries(pairs)))
        case "mapping":
            sent = dict(pairs)
        case _:
            sent = plain([(name, Nested(value) if value.startswith("{") else value) for name, value in pairs])
    if not draw(mostly(False, True, share=9)):
        return Arrival(receipt, sent)
    return Arrival(
        receipt,
        sent,
        draw(st.sampled_from([None, "k", ""])),
        draw(st.sampled_from([None, Fault(Reason.BAD_PARAMETER, "body: wrong")])),
        draw(st.sampled_from([None, Signed(b"", (), 0)])),
        draw(st.sampled_from([None, 1])),
    )


@st.composite
def clicks(draw: st.DrawFn) -> Packed:
    rng = random.Random(draw(st.integers(0, 2**32)))
    packed: Packed = {}
    for click_id in CLICK_IDS:
        campaign_id = usually(rng, rng.choice([100, 101]), 999, share=0.97)
        country = rng.choice(["US", "US", "CA", "DE", None])
        packed[click_id] = pack_click(campaign_id, rng.choice([10, 11]), CLICKED_MS, country)
    if draw(mostly(False, True, share=3)):
        packed[draw(st.sampled_from(CLICK_IDS))] = draw(st.sampled_from([*PACKED, None]))
    if draw(mostly(False, True)):
        del packed[draw(st.sampled_from(CLICK_IDS))]
    return packed


@st.composite
def all_rules(draw: st.DrawFn) -> Rules:
    return Rules(
        draw(mostly(WINDOW_MS, 0, 1000, 2**48, 2**63 - 1, 10**20, share=10)),
        draw(mostly(0, MIN_AGE_MS, share=4)),
        draw(st.sampled_from([0, 0, 1000])),
        addresses=draw(st.sampled_from(Addresses)),
    )


@st.composite
def cases(draw: st.DrawFn, most: int = 4) -> Case:
    catalog, packed = catalog_of(draw(st.integers(0, 2**32))), draw(clicks())
    return Case(
        catalog,
        draw(all_rules()),
        packed,
        draw(st.lists(arrivals(catalog, packed), min_size=1, max_size=most)),
    )
