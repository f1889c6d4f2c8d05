"""20,000 mixed postbacks, a third of them repeats, sent at once over several receivers; then the tables are compared
with a model that shares no code with the program."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp

from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from storage.postgres import connect
from tests.eventually import eventually
from tests.program import Program, running

EVENTS: Final = 20_000
CLICKS: Final = 3_000
CONNECTIONS: Final = 64
BULK: Final = 100
SEED: Final = 20261123

CATALOG: Final = """
[[advertisers]]
id = 1
name = "Open"
[[advertisers]]
id = 2
name = "Secret"
security_tokens = ["s3cret-current", "s3cret-previous"]
aliases = { order_no = "txn_id", total = "sale_amount" }
[[publishers]]
id = 10
name = "A"
[[publishers]]
id = 11
name = "B"
[[campaigns]]
id = 100
advertiser = 1
name = "One"
currency = "USD"
window = "30d"
[[campaigns.goals]]
id = 1000
title = "Install"
value = "install"
default = true
track_multiple = "no"
[[campaigns.goals.rates]]
countries = ["US", "CA"]
revenue = { fixed = "2.00" }
payout = { fixed = "1.333333" }
[[campaigns.goals.rates]]
countries = ["US"]
publisher = 11
revenue = { fixed = "2.10" }
payout = { fixed = "1.9" }
[[campaigns.goals]]
id = 1001
title = "Purchase"
value = "Purchase"
track_multiple = "yes_with_txn_id"
[[campaigns.goals.rates]]
revenue = { fixed = "0.05", percent = "12.345678" }
payout = { percent = "66.6", of = "revenue" }
[[campaigns.goals]]
id = 1002
title = "View"
value = "view"
track_multiple = "yes"
[[campaigns.goals.rates]]
revenue = { fixed = "0.001" }
payout = { fixed = "0.0005" }
[[campaigns]]
id = 200
advertiser = 2
name = "Two"
currency = "EUR"
window = "30d"
[[campaigns.goals]]
id = 2000
title = "Order"
value = "order"
default = true
track_multiple = "yes_with_txn_id"
type = "private"
publishers = [10]
[[campaigns.goals.rates]]
revenue = { percent = "10" }
payout = { fixed = "0.1", percent = "7.5" }
[[exchange_rates]]
from = "USD"
to = "EUR"
rate = "0.921659133"
valid_from = 2020-01-01
"""


@dataclass(frozen=True)
class Click:
    click_id: str
    campaign_id: int
    publisher_id: int
    country: str
    days_old: int


@dataclass(frozen=True)
class Event:
    """One postback to send, and what the model says of it. `key` None: it must be rejected for `reason`."""

    params: dict[str, str]
    key: tuple[object, ...] | None
    reason: str | None
    amounts: tuple[Decimal | None, Decimal, Decimal] | None = None  # sale, revenue, payout in the campaign's currency
    fact: tuple[str, str] | None = None  # amount and currency as sent


def micro(value: Fraction) -> Decimal:
    """Half-even at the sixth decimal, by way of decimal."""
    exact = Decimal(value.numerator * 10**30 // value.denominator)  # far more digits than can tie
    return (exact / 10**30).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)


def make_clicks(rng: random.Random) -> list[Click]:
    return [
        Click(
            f"click-{number:05}-{rng.getrandbits(32):08x}",
            rng.choice([100, 100, 200]),
            rng.choice([10, 11]),
            rng.choice(["US", "US", "CA", "FR"]),
            40 if rng.random() < 0.02 else rng.randrange(25),
        )
        for number in range(CLICKS)
    ]


def install(click: Click, rng: random.Random) -> Event:
    params = {"click_id": click.click_id}
    if rng.random() < 0.5:
        params["goal"] = rng.choice(["install", "INSTALL", "{goal}"])
    if rng.random() < 0.5:
        params["txn_id"] = f"ignored-{rng.getrandbits(40):x}"
    if click.country == "FR":
        return Event(params, None, "outside_coverage")
    if click.country == "US" and click.publisher_id == 11:
        revenue, payout = Decimal("2.10"), Decimal("1.9")
    else:
        revenue, payout = Decimal("2.00"), Decimal("1.333333")
    return Event(params, (click.click_id, 1000), None, (None, revenue, payout), ("", ""))


def purchase(click: Click, rng: random.Random) -> Event:
    amount = f"{rng.randrange(1, 90000)}.{rng.randrange(100):02}"
    txn_id = rng.choice([f"t-{rng.randrange(20)}", f"o:{rng.getrandbits(48):x}", "{txn_id}", ""])
    params = {"clickid": click.click_id, "event": "purchase", "amount": amount}
    if txn_id:
        params["order_id"] = txn_id
    sale = Fraction(amount)
    revenue = micro(Fraction("0.05") + sale * Fraction("12.345678") / 100)
    payout = micro(Fraction(revenue) * Fraction("66.6") / 100)
    txn = "" if txn_id == "{txn_id}" else txn_id
    key = (click.click_id, 1001, txn)
    return Event(params, key, None, (Decimal(amount), revenue, payout), (amount, "USD"))


def view(click: Click, rng: random.Random) -> Event:
    event_id = f"e-{rng.getrandbits(60):x}"
    params = {
        "cid": click.click_id,
        "goal": "view",
        "event_id": event_id,
        "sub9": rng.choice(["ä", "a b", "100%", "\\N"]),
    }
    return Event(params, (click.click_id, 1002, event_id), None, (None, Decimal("0.001"), Decimal("0.0005")), ("", ""))


def order(click: Click, rng: random.Random) -> Event:
    amount = f"{rng.randrange(1, 5000)}.{rng.randrange(1000000):06}"
    currency = rng.choice(["EUR", "usd", ""])
    txn_id = f"n-{rng.randrange(50)}"
    params = {"click_id": click.click_id, "order_no": txn_id, "total": amount}
    if currency:
        params["currency"] = currency
    token = rng.choice(["s3cret-current", "s3cret-previous", "wrong"] if rng.random() < 0.1 else ["s3cret-current"])
    params["security_token"] = token
    if token == "wrong":
        return Event(params, None, "bad_token")
    sale = micro(Fraction(amount) * (Fraction("0.921659133") if currency == "usd" else 1))
    revenue = micro(Fraction(sale) * 10 / 100)
    payout = micro(Fraction("0.1") + Fraction(sale) * Fraction("7.5") / 100) if click.publisher_id == 10 else Decimal(0)
    key = (click.click_id, 2000, txn_id)
    return Event(
        params, key, None, (sale, revenue, payout), (str(Decimal(amount).normalize()), currency.upper() or "EUR")
    )


def bad(click: Click, rng: random.Random) -> Event:
    base = {"click_id": click.click_id, "goal": "purchase"}
    token = {"security_token": "s3cret-current"} if click.campaign_id == 200 else {}
    if click.campaign_id == 200:
        base["goal"] = "order"
    choices: list[Event] = [
        Event({"click_id": "nobody-" + click.click_id, "goal": "install"}, None, "unknown_click"),
        Event({"goal": "install"}, None, "missing_click_id"),
        Event(base | token | {"goal": "no-such-goal"}, None, "unknown_goal"),
        Event(base | token, None, "missing_sale_amount"),
        Event(
            base | token | {"sale_amount": rng.choice(["NaN", "-1", "1,99", "1e3", "0.1234567"])}, None, "bad_amount"
        ),
        Event(base | token | {"sale_amount": "1", "currency": "ZZZ"}, None, "bad_currency"),
        Event(base | token | {"sale_amount": "1", "currency": "JPY"}, None, "no_exchange_rate"),
        Event(base | token | {"status": "maybe"}, None, "bad_parameter"),
    ]
    return rng.choice(choices)


def make_event(clicks: list[Click], rng: random.Random) -> Event:
    click = rng.choice(clicks)
    if rng.random() < 0.08:
        event = bad(click, rng)
    elif click.campaign_id == 200:
        event = order(click, rng)
    else:
        event = rng.choice([install, purchase, purchase, view])(click, rng)
    is_of_click = event.reason not in {"unknown_click", "missing_click_id", "bad_token", "bad_parameter"}
    if click.days_old > 30 and is_of_click:
        return Event(event.params, None, "click_expired")
    return event


def make_events(clicks: list[Click], rng: random.Random) -> list[Event]:
    """A third of them are repeats: some to the letter, some with another amount."""
    fresh = [make_event(clicks, rng) for _ in range(EVENTS * 2 // 3)]
    counted = [event for event in fresh if event.key is not None]
    repeats = [rng.choice(counted) for _ in range(EVENTS - len(fresh))]
    events = fresh + repeats
    rng.shuffle(events)
    return events


@dataclass
class Sender:
    """Sends events in every way there is and keeps the verdicts."""

    program: Program
    session: aiohttp.ClientSession
    verdicts: list[tuple[Event, int, dict[str, Any]]]

    async def one(self, event: Event, how: str) -> None:
        url = f"{self.program.url}/postback"
        if how == "get":
            request = self.session.get(f"{url}?{urlencode(event.params)}")
        elif how == "form":
            request = self.session.post(url, data=event.params)
        else:
            request = self.session.post(url, json=event.params)
        async with request as response:
            self.verdicts.append((event, response.status, await response.json()))

    async def many(self, events: list[Event], how: str) -> None:
        lines = [json.dumps(event.params) for event in events]
        body, media = (
            ("[" + ",".join(lines) + "]", "application/json")
            if how == "array"
            else ("\n".join(lines), "application/x-ndjson")
        )
        url = f"{self.program.url}/postbacks"
        async with self.session.post(url, data=body.encode(), headers={"Content-Type": media}) as response:
            said = await response.json()
            assert response.status == 200, said
            assert len(said) == len(events)
            self.verdicts += [(event, 200, verdict) for event, verdict in zip(events, said, strict=True)]


async def send_all(
    program: Program, events: list[Event], rng: random.Random
) -> list[tuple[Event, int, dict[str, Any]]]:
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        sender = Sender(program, session, [])
        jobs: list[Any] = []
        at = 0
        while at < len(events):
            how = rng.choice(["get"] * 60 + ["form"] * 15 + ["json"] * 15 + ["array", "ndjson"])
            if how in {"array", "ndjson"}:
                jobs.append((sender.many, events[at : at + BULK], how))
                at += BULK
            else:
                jobs.append((sender.one, events[at], how))
                at += 1
        queue = iter(jobs)

        async def worker() -> None:
            for call, what, how in queue:
                await call(what, how)

        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
        return sender.verdicts


async def register(program: Program, clicks: list[Click]) -> None:
    now = time.time()
    rows = [
        {
            "click_id": click.click_id,
            "campaign_id": click.campaign_id,
            "publisher_id": click.publisher_id,
            "clicked_at": now - click.days_old * 86_400 - 60,
            "country": click.country,
        }
        for click in clicks
    ]
    headers = {"Authorization": f"Bearer {program.admin_key}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{program.url}/clicks", json=rows, headers=headers) as response,
    ):
        assert response.status == 200, await response.text()


def check_verdicts(verdicts: list[tuple[Event, int, dict[str, Any]]]) -> dict[str, Event]:
    """Every verdict is what the model says; the accepted events by conversion id."""
    assert len(verdicts) == EVENTS
    by_key: dict[tuple[object, ...], list[tuple[Event, dict[str, Any]]]] = {}
    for event, status, said in verdicts:
        if event.key is None:
            assert said["reason"] == event.reason, (event, said)
            if event.reason == "bad_token":
                assert said["status"] == "invalid"
            else:
                assert (status, said["status"]) == (200, "rejected"), (event, said)
        else:
            assert status == 200, (event, said)
            by_key.setdefault(event.key, []).append((event, said))
    accepted: dict[str, Event] = {}
    for key, group in by_key.items():
        winners = [(event, said) for event, said in group if said["status"] == "accepted"]
        assert len(winners) == 1, (key, group)
        winner, said = winners[0]
        assert said["conversion_id"] not in accepted
        accepted[said["conversion_id"]] = winner
        for event, other in group:
            assert other["conversion_id"] == said["conversion_id"]
            if other is not said:
                assert other["status"] == ("duplicate" if event.fact == winner.fact else "conflict"), (event, winner)
    return accepted


async def test_twenty_thousand_mixed_postbacks(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    rng = random.Random(SEED)
    clicks = make_clicks(rng)
    events = make_events(clicks, rng)
    connection = await connect(postgres_dsn)
    await import_catalog(connection, parse_catalog(CATALOG))
    await connection.close()
    settings = {"SERVER__RECEIVERS": "2", "WRITER__PROCESSES": "2", "REDIS__PARTITIONS": "4"}
    with running(tmp_path, redis_url, postgres_dsn, **settings) as program:
        await register(program, clicks)
        verdicts = await send_all(program, events, rng)
        accepted = check_verdicts(verdicts)
        outcomes = Counter(said["status"] for _, _, said in verdicts)
        logged = sum(outcomes[status] for status in ("duplicate", "conflict", "rejected", "invalid"))
        database = await connect(postgres_dsn)
        try:

            async def counts() -> tuple[int, int]:
                row = await database.fetchrow(
                    "SELECT (SELECT count(*) FROM conversions), (SELECT count(*) FROM postback_log)"
                )
                assert row is not None
                return row[0], row[1]

            await eventually(counts, lambda found: found == (len(accepted), logged))
            await compare_rows(database, accepted, outcomes, verdicts)
        finally:
            await database.close()
        assert program.stop() == 0


async def compare_rows(
    database: Any,
    accepted: dict[str, Event],
    outcomes: Counter[str],
    verdicts: list[tuple[Event, int, dict[str, Any]]],
) -> None:
    rows = await database.fetch("SELECT * FROM conversions")
    assert {str(row["conversion_id"]) for row in rows} == accepted.keys()
    for row in rows:
        event = accepted[str(row["conversion_id"])]
        assert event.amounts is not None
        assert (row["sale_amount"], row["revenue"], row["payout"]) == event.amounts, (row, event)
        assert "security_token" not in row["params"]
        assert "s3cret" not in row["params"]
        if "sub9" in event.params:
            assert json.loads(row["params"])["sub9"] == event.params["sub9"]
    sums = await database.fetchrow("SELECT sum(revenue), sum(payout) FROM conversions")
    amounts = [event.amounts for event in accepted.values() if event.amounts is not None]
    assert sums[0] == sum((amount[1] for amount in amounts), Decimal(0))
    assert sums[1] == sum((amount[2] for amount in amounts), Decimal(0))
    log = Counter(
        {row[0]: row[1] for row in await database.fetch("SELECT outcome, count(*) FROM postback_log GROUP BY 1")}
    )
    assert log == Counter(
        duplicate=outcomes["duplicate"],
        conflict=outcomes["conflict"],
        rejected=outcomes["rejected"] + outcomes["invalid"],
    )
    reasons = Counter(said["reason"] for _, _, said in verdicts if "reason" in said)
    assert reasons == Counter(
        {
            row[0]: row[1]
            for row in await database.fetch(
                "SELECT reason, count(*) FROM postback_log WHERE outcome = 'rejected' GROUP BY 1"
            )
        }
    )
    assert await database.fetchval("SELECT count(*) FROM dead_letters") == 0
