"""Postbacks that are certainly plain, with all that a plain one can hold, and the same with one character changed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from dedup.policy import TrackMultiple
from ingest.addresses import Addresses
from ingest.arrival import Arrival, Receipt, Unread, UnreadLine, Waiting
from ingest.bodies import Fields, pairs_of
from ingest.catalog import ExchangeRates, GoalType, PayoutOf, Profile, Rate, Snapshot, Terms
from ingest.clicks import pack_click
from ingest.decide import Rules
from ingest.wire import STANDARD_ALIASES
from tests.catalogs import CLICKED_MS, advertiser, campaign, goal, snapshot
from tests.plain_cases import Case, Packed
from tests.plain_values import ADDRESSES, CLICK_IDS, PARAM_NAMES, TOKENS, WINDOW_MS

_VISIBLE: Final = "".join(char for char in map(chr, range(0x21, 0x7F)) if char not in '{[<$%("\\')
_SAID: Final = (
    "New York",
    "München",
    "São Paulo",
    "100%",
    "a+b & c = d",
    "{m}",
    "",
    " x ",
    "日本語",
    "👍🏽",
    "ü" * 127,
    "x" * 255,
)
OWN: Final = {"order": "txn_id", "total": "sale_amount", "shop_key": "security_token", "lead_ref": "click_id"}


def as_query(rng: random.Random, sent: dict[str, str]) -> str:
    """As senders write it."""
    safe = rng.choice(["", "/:,;~!*'@?|"])
    pieces = [f"{name}={quote(value, safe=safe)}" for name, value in sent.items()]
    query = "&".join(pieces)
    return query.replace("%20", "+") if rng.random() < 0.5 else query


def as_line(rng: random.Random, sent: dict[str, str]) -> bytes:
    """The same as a line of JSON."""
    separators = rng.choice([(",", ":"), (", ", ": ")])
    return json.dumps(sent, ensure_ascii=False, separators=separators).encode() + rng.choice([b"", b"\r", b" "])


def plain_catalog(rng: random.Random) -> Snapshot:
    """Whose postbacks can all be plain."""
    campaigns = []
    for number in (1, 2):
        goals = [
            goal(
                1000 * number + place,
                value,
                rates={
                    key: Rate(
                        Terms(rng.randrange(10**7), micro_percent := rng.choice([0, 0, 33_333_333])),
                        Terms(rng.randrange(10**6), micro_percent),
                        rng.choice(list(PayoutOf)),
                    )
                    for key in ((None, None), (10, "US"), (11, None), (None, "CA"))
                },
                kind=rng.choice(list(GoalType)),
                publishers=[10],
                track_multiple=policy,
            )
            for place, (value, policy) in enumerate(zip(("install", "Sale", 'back\\"'), TrackMultiple, strict=True))
        ]
        own = {name: field for name, field in OWN.items() if number == 2}
        whose = advertiser(
            advertiser_id=number, aliases=own, tokens=TOKENS[:2] if own else (), profile=rng.choice(list(Profile))
        )
        campaigns.append(
            campaign(*goals, default=goals[2], campaign_id=99 + number, of=whose, currency=rng.choice(["USD", "EUR"]))
        )
    exchange = {
        pair: ExchangeRates((0,), (rng.choice([1_085_000_000, 7_000_001]),))
        for pair in (("EUR", "USD"), ("USD", "EUR"))
    }
    return snapshot(*campaigns, exchange_rates=exchange)


def _text(rng: random.Random) -> str:
    return "-" + "".join(rng.choices(_VISIBLE, k=rng.choice([1, 5, 20, 254])))


def plain_postback(rng: random.Random, click_id: str, is_second: bool, template: random.Random) -> Fields:
    """Names by the template, in its order; values of all that a plain one can hold."""
    values: dict[str, Callable[[], str]] = {
        "goal": lambda: rng.choice(["install", "INSTALL", "sale", "SALE"]),
        "txn_id": lambda: _text(rng),
        "sale_amount": lambda: rng.choice(
            ["0", "19.99", "000000000001.5", f"{rng.randrange(10**6)}.{rng.randrange(10**6)}"]
        ),
        "event_id": lambda: _text(rng),
        "event_time": lambda: rng.choice(["1790000000", "1790000000123", "1790000000.5", "2026-11-01T12:00:00Z"]),
        "status": lambda: rng.choice(["approved", "Pending", "REJECTED", "cancelled"]),
        "currency": lambda: rng.choice(["USD", "eur", "EUR", "usd"]),
        "security_token": lambda: rng.choice(TOKENS),
    }
    own = {field: name for name, field in OWN.items()} if is_second else {}
    fields = ["sale_amount", *template.sample([*values][:1] + [*values][1:2] + [*values][3:], template.randint(1, 6))]
    if is_second and "security_token" not in fields:
        fields.append("security_token")
    pairs = [
        (own.get("click_id") or template.choice(["click_id", "clickid", "cid", "subid", "transaction_id"]), click_id)
    ]
    for field in fields:
        name = own.get(field) or template.choice(
            [one for one, standard in STANDARD_ALIASES.items() if standard == field]
        )
        pairs.append((name, values[field]()))
    pairs += [
        (name, rng.choice(_SAID))
        for name in template.sample(PARAM_NAMES[:5] + PARAM_NAMES[8:14] + PARAM_NAMES[15:18], template.randint(0, 9))
    ]
    template.shuffle(pairs)
    return dict(pairs)


def plain_case(seed: int, count: int = 12) -> Case:
    """All of it plain, at the second sight of its names."""
    rng = random.Random(seed)
    catalog = plain_catalog(rng)
    packed: Packed = {
        click_id: pack_click(
            100 + place % 2, rng.choice([10, 11, 2**46 - 1]), CLICKED_MS + place, rng.choice(["US", "CA", None])
        )
        for place, click_id in enumerate(CLICK_IDS)
    }
    waiting: list[Waiting] = []
    for _ in range(count):
        place = rng.randrange(len(CLICK_IDS))
        sent = plain_postback(rng, CLICK_IDS[place], place % 2 == 1, random.Random(rng.randrange(8) + seed))
        receipt = Receipt(rng.randbytes(16), (CLICKED_MS + 1500) * 1000 + rng.randrange(1000), rng.choice(ADDRESSES))
        forms: list[Waiting] = [
            Arrival(receipt, sent),
            Unread(receipt, as_query(rng, sent)),
            UnreadLine(receipt, as_line(rng, sent)),
        ]
        waiting.append(rng.choice(forms))
    return Case(catalog, Rules(WINDOW_MS, addresses=rng.choice(list(Addresses))), packed, waiting)


def nearly_plain_case(seed: int) -> Case:
    """The same with one character of each changed."""
    rng = random.Random(seed)
    case = plain_case(seed)
    return replace(case, arrivals=[_changed(rng, one) for one in case.arrivals])


def _changed(rng: random.Random, one: Waiting) -> Waiting:
    if isinstance(one, UnreadLine):
        at = rng.randrange(len(one.line))
        new = rng.choice([b"", *map(bytes, zip(b'"\\{}[]:, \t\x00\x7f\x80\xc3\xff%1n', strict=True)), rng.randbytes(1)])
        return UnreadLine(one.receipt, (one.line[:at] + new + one.line[at + rng.randint(0, 1) :]).replace(b"\n", b""))
    if isinstance(one, Unread):
        return Unread(one.receipt, _change(rng, one.query, '&=%+0aF{ "\\'.replace(" ", "") + rng.choice(_VISIBLE)))
    sent = dict(pairs_of(one.sent))
    name = rng.choice([*sent])
    odd = '&=%+0aF{ "\\\t\n\x00\x7f\x85é\u2028\ud800' + rng.choice(_VISIBLE)
    if rng.random() < 0.8:
        sent[name] = _change(rng, sent[name], odd)
    else:
        sent[_change(rng, name, odd)] = sent.pop(name)
    return Arrival(one.receipt, sent)


def _change(rng: random.Random, text: str, chars: str) -> str:
    at = rng.randint(0, len(text))
    return text[:at] + rng.choice(["", rng.choice(chars), rng.choice(chars) * 2]) + text[at + rng.randint(0, 1) :]
