"""The recorder on a deduplicator in memory: order, advertisers' own names, engines that are away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import orjson
import pytest

from dedup.policy import TrackMultiple
from dedup.port import TOKEN_BYTES, CachedClick, Entry, QueueUnavailableError, Verdict
from ingest.arrival import Arrival
from ingest.catalog import Advertiser, Profile, Snapshot
from ingest.click_source import MISS_MS, ClickSource, ClicksUnavailableError
from ingest.clicks import Click, pack_click
from ingest.decide import Rules
from ingest.outcome import AWAY, UNAVAILABLE, Outcome, Result
from ingest.reasons import Reason
from ingest.recorder import Recorder
from ingest.wire import Fault
from storage.records import COLUMNS
from tests.catalogs import CLICKED_MS, DAY_MS, advertiser, campaign, click, goal, receipt, snapshot

RULES = Rules(window_ms=90 * DAY_MS)
INSTALL = goal()
REGISTER = goal(1002, "register", track_multiple=TrackMultiple.YES)
Column = str | None


class MemoryDeduplicator:
    """The port in memory, with Redis away or full as it is told."""

    def __init__(self) -> None:
        self.packed: dict[str, bytes] = {}
        self.claims: dict[tuple[str, bytes], Entry] = {}
        self.queue: list[tuple[bytes, Entry]] = []
        self.calls: list[list[Entry]] = []
        self.clicks_away = False
        self.claims_away = False
        self.is_full = False

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        if self.clicks_away:
            raise QueueUnavailableError("away")
        return [self.packed.get(click_id) for click_id in click_ids]

    async def cache(self, clicks: Sequence[CachedClick]) -> None:
        for one in clicks:
            self.packed.setdefault(one.click_id, one.packed)

    async def claim(self, entries: Sequence[Entry]) -> list[Verdict]:
        self.calls.append(list(entries))
        if self.claims_away:
            return [Verdict.UNAVAILABLE] * len(entries)
        if self.is_full:
            return [Verdict.FULL] * len(entries)
        return [self._claim(entry) for entry in entries]

    def _claim(self, entry: Entry) -> Verdict:
        held = self.claims.setdefault((entry.click_id, entry.field), entry) if entry.field else None
        if held is None or held is entry:
            self.queue.append((entry.kind, entry))
            return Verdict.ACCEPTED
        is_same = held.fact == entry.fact
        self.queue.append((b"d1" if is_same else b"x1", entry))
        return Verdict.DUPLICATE if is_same else Verdict.CONFLICT


class Lookup:
    """Postgres' clicks."""

    def __init__(self, **clicks: Click) -> None:
        self.clicks = clicks
        self.asked: list[list[str]] = []
        self.is_away = False

    async def __call__(self, click_ids: Sequence[str]) -> dict[str, Click]:
        self.asked.append(list(click_ids))
        if self.is_away:
            raise ClicksUnavailableError
        return {click_id: self.clicks[click_id] for click_id in click_ids if click_id in self.clicks}


class Observer:
    def __init__(self) -> None:
        self.batches: list[list[Outcome]] = []

    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        assert seconds >= 0
        self.batches.append(list(outcomes))


class World:
    """A recorder and all that it works with."""

    def __init__(self, catalog: Snapshot | None = None, **stored: Click) -> None:
        self.catalog = catalog or snapshot(campaign(INSTALL, REGISTER, default=INSTALL))
        self.dedup = MemoryDeduplicator()
        self.lookup = Lookup(**stored)
        self.source = ClickSource(self.dedup, self.lookup, expires_ms=lambda one: one.clicked_ms + RULES.window_ms)
        self.observer = Observer()
        self.recorder = Recorder(self.dedup, self.source, lambda: self.catalog, RULES, self.observer)
        self.number = 0

    def put(self, *click_ids: str, of: Click | None = None) -> None:
        """Clicks into the cache."""
        one = of or click()
        for click_id in click_ids:
            self.dedup.packed[click_id] = pack_click(one.campaign_id, one.publisher_id, one.clicked_ms, one.country)

    def arrival(self, key: str | None = None, fault: Fault | None = None, /, **sent: str) -> Arrival:
        self.number += 1
        return Arrival(receipt(self.number), list(sent.items()), key, fault)

    async def record(self, *arrivals: Arrival) -> list[Outcome]:
        outcomes = await self.recorder.record(arrivals)
        assert self.observer.batches[-1] == outcomes
        return outcomes

    async def send(self, **sent: str) -> Outcome:
        (outcome,) = await self.record(self.arrival(**sent))
        return outcome

    def rows(self) -> list[dict[str, Column]]:
        """The queue's payloads by column."""
        found: list[dict[str, Column]] = []
        for _, entry in self.dedup.queue:
            values = [None if value == "\\N" else value for value in entry.payload.decode().split("\t")]
            found.append(dict(zip(COLUMNS, values, strict=True)))
        return found

    def params(self) -> list[dict[str, object]]:
        return [orjson.loads(row["params"] or "") for row in self.rows()]


def results(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.reason or outcome.result.value for outcome in outcomes]


# Outcomes --------------------------------------------------------------------------------------------------------


async def test_outcomes_come_in_the_order_of_the_arrivals() -> None:
    world = World()
    world.put("a", "b")
    world.put("old", of=click(clicked_ms=CLICKED_MS - 91 * DAY_MS))
    outcomes = await world.record(
        world.arrival(click_id="a"),
        world.arrival(click_id="nobody"),
        world.arrival(click_id="b", goal="none"),
        world.arrival(click_id="a"),
        world.arrival(goal="install"),
        world.arrival(click_id="a", sale_amount="5"),
        world.arrival(click_id="old"),
        world.arrival(click_id="b"),
        world.arrival(click_id="b", txn_id="t"),
    )
    expected = "accepted unknown_click unknown_goal duplicate missing_click_id conflict click_expired accepted accepted"
    assert results(outcomes) == expected.split()
    assert len(world.dedup.calls) == 1, "one claim call for the batch"
    kinds = [kind for kind, _ in world.dedup.queue]
    assert kinds == [b"c1", b"r1", b"r1", b"d1", b"r1", b"x1", b"r1", b"c1", b"c1"]
    assert [row["reason"] for row in world.rows()] == [outcome.reason for outcome in outcomes]


async def test_repeats_are_answered_with_the_originals_id() -> None:
    world = World()
    world.put("a")
    outcomes = [await world.send(click_id="a"), await world.send(click_id="a"), await world.send(click_id="a", sum="1")]
    assert results(outcomes) == ["accepted", "duplicate", "conflict"]
    assert outcomes[0].conversion_id is not None
    assert {outcome.conversion_id for outcome in outcomes} == {outcomes[0].conversion_id}
    assert {row["conversion_id"] for row in world.rows()} == {str(outcomes[0].conversion_id)}


async def test_entries_carry_a_token_of_their_postbacks_own() -> None:
    world = World()
    world.put("a")
    arrivals = [world.arrival(click_id="a"), world.arrival(click_id="a", txn_id="t"), world.arrival(goal="install")]
    await world.record(*arrivals)
    await world.record(arrivals[0])
    first, again = world.dedup.calls
    tokens = [entry.token for entry in first]
    assert {len(token) for token in tokens} == {TOKEN_BYTES}
    assert len(set(tokens)) == 3
    assert again[0] == first[0], "the same postback makes the same entry"


@pytest.mark.parametrize("profile", list(Profile))
async def test_refusals(profile: Profile) -> None:
    owner = advertiser(tokens=["right-secret"], profile=profile)
    world = World(snapshot(campaign(INSTALL, default=INSTALL, of=owner)))
    world.put("a")
    outcomes = [
        await world.send(click_id="a", security_token="wrong-secret"),
        await world.send(click_id="a", security_token="right-secret", goal="none"),
        await world.send(click_id="a", security_token="right-secret"),
        await world.send(click_id="nobody", security_token="right-secret"),
    ]
    assert outcomes[:2] == [
        Outcome(Result.INVALID, None, Reason.BAD_TOKEN, "security_token: not accepted", profile),
        Outcome(Result.REJECTED, None, Reason.UNKNOWN_GOAL, "goal: the campaign has no such goal", profile),
    ]
    assert (outcomes[2].result, outcomes[2].profile) == (Result.ACCEPTED, profile)
    assert outcomes[3].profile is Profile.JSON, "nobody's click: nobody's profile"
    assert b"secret" not in b"".join(entry.payload for _, entry in world.dedup.queue)


async def test_what_could_not_be_read_is_logged_with_its_fault() -> None:
    owner = advertiser(aliases={"own": "txn_id"})
    world = World(snapshot(campaign(INSTALL, default=INSTALL, of=owner)))
    world.put("a")
    fault = Fault(Reason.BAD_PARAMETER, "item: not a JSON object")
    outcomes = await world.record(
        world.arrival(None, fault), world.arrival(click_id="a"), world.arrival(None, fault, click_id="a")
    )
    assert results(outcomes) == ["bad_parameter", "accepted", "bad_parameter"]
    assert outcomes[0].detail == outcomes[2].detail == fault.detail


async def test_an_empty_batch() -> None:
    assert await World().record() == []


# Engines that are away -------------------------------------------------------------------------------------------


async def test_clicks_that_cannot_be_looked_up_are_away_and_no_others() -> None:
    world = World(c=click())
    world.put("a")
    world.lookup.is_away = True
    arrivals = [
        world.arrival(click_id="a"),
        world.arrival(click_id="c"),
        world.arrival(goal="install"),
        world.arrival(click_id="nobody"),
        world.arrival(click_id="a", txn_id="t"),
    ]
    outcomes = await world.record(*arrivals)
    assert results(outcomes) == ["accepted", "unavailable", "missing_click_id", "unavailable", "accepted"]
    assert outcomes[1] is AWAY
    assert [entry.click_id for entry in world.dedup.calls[0]] == ["a", "", "a"]
    world.lookup.is_away = False
    assert results(await world.record(*arrivals[1:4:2])) == ["accepted", "unknown_click"]


async def test_redis_away_when_clicks_are_read() -> None:
    world = World()
    world.put("a")
    world.dedup.clicks_away = world.dedup.claims_away = True
    outcomes = await world.record(world.arrival(click_id="a"), world.arrival(goal="install"))
    assert [outcome is AWAY for outcome in outcomes] == [True, True]
    assert world.lookup.asked == [], "Postgres is not asked for what Redis may have"


async def test_redis_away_when_claiming() -> None:
    world = World()
    world.put("a")
    world.dedup.claims_away = True
    outcomes = await world.record(world.arrival(click_id="a"), world.arrival(click_id="a", goal="none"))
    assert [outcome is AWAY for outcome in outcomes] == [True, True]


async def test_a_full_queue() -> None:
    world = World()
    world.put("a")
    world.dedup.is_full = True
    outcomes = await world.record(world.arrival(click_id="a"), world.arrival(click_id="a", goal="none"))
    assert [outcome is UNAVAILABLE for outcome in outcomes] == [True, True]


async def test_what_is_not_admitted_claims_nothing() -> None:
    world = World(
        snapshot(
            campaign(INSTALL, default=INSTALL),
            campaign(INSTALL, default=INSTALL, campaign_id=200, of=advertiser(advertiser_id=2)),
        )
    )
    world.put("a")
    world.put("b", of=click(campaign_id=200))
    arrivals = [world.arrival(click_id="a"), world.arrival(click_id="b"), world.arrival(click_id="nobody")]
    outcomes = await world.recorder.record(arrivals, lambda owner, is_proven: owner.id == 2 and is_proven)
    assert results(outcomes) == ["unavailable", "accepted", "unknown_click"]
    assert outcomes[0] is UNAVAILABLE
    assert [entry.click_id for entry in world.dedup.calls[0]] == ["b", "nobody"]


async def test_a_stranger_does_not_count_as_the_advertiser() -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    seen: list[tuple[int, bool]] = []

    def admit(owner: Advertiser, is_proven: bool) -> bool:
        seen.append((owner.id, is_proven))
        return is_proven

    arrivals = [world.arrival(click_id="a", my_key=key) for key in ("wrong-secret", "right-secret")]
    assert results(await world.recorder.record(arrivals, admit)) == ["unavailable", "accepted"]
    assert seen == [(OWN.id, False), (OWN.id, True)]


# Clicks ----------------------------------------------------------------------------------------------------------


async def test_clicks_are_read_through_once() -> None:
    world = World(a=click(), b=click())
    outcomes = await world.record(
        world.arrival(click_id="a"), world.arrival(click_id="b"), world.arrival(click_id="a", txn_id="t")
    )
    assert results(outcomes) == ["accepted"] * 3
    assert world.lookup.asked == [["a", "b"]]
    assert world.dedup.packed.keys() == {"a", "b"}
    await world.send(click_id="a")
    assert world.lookup.asked == [["a", "b"]]


async def test_a_click_that_is_too_old_is_not_cached() -> None:
    world = World(a=click(clicked_ms=CLICKED_MS - 91 * DAY_MS))
    assert results([await world.send(click_id="a")]) == ["click_expired"]
    assert world.dedup.packed == {}


async def test_misses_are_remembered_briefly() -> None:
    world = World()

    async def send(after_ms: int) -> str:
        arrival = Arrival(receipt(after_ms=after_ms), [("click_id", "late")])
        (outcome,) = await world.record(arrival)
        return results([outcome])[0]

    assert [await send(0), await send(MISS_MS - 1)] == ["unknown_click", "unknown_click"]
    assert len(world.lookup.asked) == 1
    world.lookup.clicks["late"] = click()
    assert await send(MISS_MS) == "accepted"
    assert len(world.lookup.asked) == 2


async def test_a_click_that_comes_into_the_cache_ends_a_miss() -> None:
    world = World()
    assert results([await world.send(click_id="late")]) == ["unknown_click"]
    world.put("late")
    assert results([await world.send(click_id="late")]) == ["accepted"]


async def test_remembered_misses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.click_source.MAX_MISSES", 2)
    world = World()
    for click_id in ("x", "y", "z", "x", "z"):
        await world.send(click_id=click_id)
    assert world.lookup.asked == [["x"], ["y"], ["z"], ["x"]]


# Advertisers' own names ------------------------------------------------------------------------------------------

OWN = advertiser(
    aliases={
        "my_click": "click_id",
        "my_key": "security_token",
        "order": "txn_id",
        "sum": "sale_amount",
        "goal": "goal",
    },
    tokens=["right-secret"],
)
OTHER = advertiser(advertiser_id=2)
OWN_CATALOG = snapshot(
    campaign(INSTALL, REGISTER, default=INSTALL, of=OWN),
    campaign(INSTALL, REGISTER, default=INSTALL, of=OTHER, campaign_id=200),
)


async def test_own_names() -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    outcome = await world.send(my_click="a", my_key="right-secret", order="o-1", sum="4.50", sub1="x")
    assert outcome.result is Result.ACCEPTED
    (row,) = world.rows()
    assert (row["click_id"], row["txn_id"], row["sale_micros"]) == ("a", "o-1", "4500000")
    assert world.params() == [{"sub1": "x"}]


async def test_own_names_win_and_the_standard_ones_are_kept() -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    outcome = await world.send(click_id="a", my_key="right-secret", order="o-1", txn_id="their-own", order_id="o-2")
    assert outcome.result is Result.ACCEPTED
    assert world.rows()[0]["txn_id"] == "o-1"
    assert world.params() == [{"txn_id": "their-own", "order_id": "o-2"}]


async def test_standard_names_hold_where_no_own_one_is_given() -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    outcome = await world.send(click_id="a", security_token="right-secret", txn_id="t-1", amount="4.50")
    assert outcome.result is Result.ACCEPTED
    assert (world.rows()[0]["txn_id"], world.rows()[0]["sale_micros"]) == ("t-1", "4500000")


@pytest.mark.parametrize("token", [{"my_key": "wrong-secret"}, {"security_token": "wrong-secret"}, {}])
async def test_own_names_do_not_get_round_the_token(token: dict[str, str]) -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    assert results([await world.send(my_click="a", **token)]) == ["bad_token"]
    assert world.params() == [{"_detail": "security_token: " + ("not accepted" if token else "missing")}]


@pytest.mark.parametrize(
    "sent",
    [
        {"click_id": "a", "my_key": "right-secret"},
        {"click_id": "a", "my_key": "right-secret", "security_token": "other-secret"},
        {"my_click": "a", "my_key": "wrong-secret", "security_token": "right-secret"},
        {"click_id": "b", "my_key": "right-secret", "security_token": "other-secret"},
        {"click_id": "nobody", "my_key": "right-secret"},
        {"my_click": "nobody", "my_key": "right-secret"},
        {"my_key": "right-secret"},
        {"click_id": "a", "txn_id": "x" * 300, "my_key": "right-secret"},
    ],
)
async def test_secrets_are_never_kept_under_whatever_name(sent: dict[str, str]) -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    world.put("b", of=click(campaign_id=200))
    await world.send(**sent)
    ((_, entry),) = world.dedup.queue
    assert b"secret" not in entry.payload
    assert b"my_key" not in entry.payload


async def test_a_click_found_by_anothers_name_is_read_by_its_own_advertisers_names() -> None:
    other = advertiser(advertiser_id=2, aliases={"order": "txn_id"})
    catalog = snapshot(
        campaign(INSTALL, default=INSTALL, of=OWN), campaign(INSTALL, default=INSTALL, of=other, campaign_id=200)
    )
    world = World(catalog)
    world.put("b", of=click(campaign_id=200))
    assert results([await world.send(my_click="b", order="o-1")]) == ["accepted"]
    assert world.rows()[0]["txn_id"] == "o-1"
    assert results([await world.send(my_click="b", order="x" * 300)]) == ["bad_parameter"]


async def test_a_quarrel_of_standard_names_is_settled_by_own_ones() -> None:
    """`sum` and `amount` are the same to everybody else."""
    world = World(OWN_CATALOG)
    world.put("a")
    world.put("b", of=click(campaign_id=200))
    sent = {"sum": "4.50", "amount": "9"}
    assert results([await world.send(my_click="a", my_key="right-secret", **sent)]) == ["accepted"]
    assert world.rows()[0]["sale_micros"] == "4500000"
    assert results([await world.send(click_id="b", **sent)]) == ["bad_parameter"]


async def test_an_own_name_for_the_click_wins_over_what_standard_names_hold() -> None:
    """`cid` is this sender's campaign, and `subid` its publisher: only `my_click` names the click."""
    world = World(OWN_CATALOG)
    world.put("a")
    outcome = await world.send(my_click="a", cid="campaign-7", subid="pub-9", my_key="right-secret")
    assert outcome.result is Result.ACCEPTED
    assert world.rows()[0]["click_id"] == "a"
    assert world.params() == [{"cid": "campaign-7", "subid": "pub-9"}]


async def test_anothers_own_name_does_not_hide_a_click() -> None:
    world = World(OWN_CATALOG)
    world.put("a", "x")
    world.put("b", of=click(campaign_id=200))
    assert results([await world.send(click_id="b", my_click="promo")]) == ["accepted"]
    assert world.rows()[0]["click_id"] == "b"


async def test_an_own_click_id_that_cannot_be_looked_up_is_decided_later() -> None:
    world = World(OWN_CATALOG)
    world.put("b", of=click(campaign_id=200))
    world.lookup.is_away = True
    assert await world.send(click_id="b", my_click="not-cached") is AWAY
    assert world.dedup.queue == []


# Idempotency-Key -------------------------------------------------------------------------------------------------


async def test_an_idempotency_key_is_the_event_id() -> None:
    world = World()
    world.put("a")
    sent = {"click_id": "a", "goal": "register"}
    outcomes = await world.record(
        world.arrival("k-1", **sent),
        world.arrival("k-1", **sent),
        world.arrival("k-2", **sent),
        world.arrival(**sent),
        world.arrival(**sent),
        world.arrival(event_id="k-1", **sent),
    )
    assert results(outcomes) == ["accepted", "duplicate", "accepted", "accepted", "accepted", "duplicate"]
    assert outcomes[0].conversion_id == outcomes[1].conversion_id == outcomes[5].conversion_id
    assert len({outcome.conversion_id for outcome in outcomes}) == 4
    assert world.params()[0] == {"event_id": "k-1"}


async def test_an_event_id_that_is_given_goes_before_the_key() -> None:
    world = World()
    world.put("a")
    sent = {"click_id": "a", "goal": "register", "event_id": "e"}
    outcomes = await world.record(world.arrival("k-1", **sent), world.arrival("k-2", **sent))
    assert results(outcomes) == ["accepted", "duplicate"]


async def test_a_key_holds_with_own_names_too() -> None:
    world = World(OWN_CATALOG)
    world.put("a")
    sent = {"my_click": "a", "goal": "register", "my_key": "right-secret"}
    outcomes = await world.record(*(world.arrival("k-1", **sent) for _ in range(2)))
    assert results(outcomes) == ["accepted", "duplicate"]


async def test_the_catalog_of_the_moment_decides() -> None:
    world = World()
    world.put("a")
    assert results([await world.send(click_id="a", goal="late")]) == ["unknown_goal"]
    world.catalog = snapshot(campaign(replace(INSTALL, value="late")))
    assert results([await world.send(click_id="a", goal="late")]) == ["accepted"]
