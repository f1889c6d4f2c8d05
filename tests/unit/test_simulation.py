"""Simulations as far as no server is needed: what is read, what is said of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pytest

from dedup.policy import TrackMultiple
from dedup.port import QueueUnavailableError
from ingest.catalog import Profile, Snapshot
from ingest.clicks import pack_click
from ingest.decide import Rules
from ingest.simulation import ClaimState, Simulation, Standing, simulate
from tests.catalogs import CLICKED_MS, DAY_MS, advertiser, campaign, goal, rate, snapshot

RULES: Final = Rules(window_ms=10_000 * DAY_MS)
INSTALL: Final = goal(track_multiple=TrackMultiple.NO)
PURCHASE: Final = goal(1001, "purchase", rates={(None, None): rate(revenue=(0, 10_000_000))})
EACH: Final = goal(1002, "each", track_multiple=TrackMultiple.YES)
ALIASES: Final = {"order": "txn_id", "secret": "security_token"}
CATALOG: Final = snapshot(
    campaign(INSTALL, PURCHASE, EACH, default=INSTALL),
    campaign(goal(2000), campaign_id=200, of=advertiser(advertiser_id=2, tokens=["right"], aliases=ALIASES)),
    campaign(goal(3000), campaign_id=300, of=advertiser(advertiser_id=3, profile=Profile.PIXEL)),
    campaign(goal(4000), campaign_id=400, of=advertiser(advertiser_id=4, networks=["192.0.2.0/24"])),
)
POOL: Any = None  # all clicks are cached: Postgres is not asked


class Held:
    """Clicks and claims in memory."""

    def __init__(self, **facts: bytes) -> None:
        campaigns = {"c": 100, "token": 200, "pixel": 300, "network": 400}
        self._packed = {name: pack_click(campaign_id, 10, CLICKED_MS, "US") for name, campaign_id in campaigns.items()}
        self._facts = facts

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        return [self._packed[click_id] for click_id in click_ids]

    async def claimed(self, click_id: str, field: str) -> bytes | None:
        assert click_id in self._packed
        return self._facts.get(field)


class Away(Held):
    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        raise QueueUnavailableError("away")


async def simulated(text: str, held: Held | None = None, catalog: Snapshot = CATALOG, **more: Any) -> Simulation:
    # A claim that is held in memory, so that Postgres is not asked whether the conversion is stored.
    return await simulate(text, catalog, RULES, held or Held(**{"1000": b"", "1001:T": b"5USD"}), POOL, **more)


def found(made: Simulation) -> dict[str, str]:
    return {step.step: step.found for step in made.steps}


@pytest.mark.parametrize(
    "text",
    [
        "click_id=c&goal=purchase&txn_id=T&sale_amount=5",
        "?click_id=c&goal=purchase&txn_id=T&sale_amount=5",
        " https://t.example.com/postback?click_id=c&goal=purchase&txn_id=T&sale_amount=5#top \n",
        "/postback?click_id=c&goal=purchase&txn_id=T&sale_amount=5",
        "HTTP://t.example.com?click_id=c&goal=purchase&txn_id=T&sale_amount=5",
        "click_id=c&goal=purchase&txn_id=T&sale_amount=5&page=https://shop.example/?a=b",
        '{"click_id": "c", "goal": "purchase", "txn_id": "T", "sale_amount": 5.00, "note": null}',
    ],
)
async def test_what_a_sender_would_send_is_read(text: str) -> None:
    made = await simulated(text)
    assert (made.verdict, made.reason) == ("duplicate", None)
    assert made.claim == ClaimState(Standing.HELD, "1001:T", "5USD", "5USD")
    assert made.record["revenue"] == "0.5"
    assert made.answer.status == 200
    assert made.answer.body == f'{{"status":"duplicate","conversion_id":"{made.conversion_id}"}}'


@pytest.mark.parametrize(
    ("text", "status", "reason", "detail"),
    [
        ("", 400, "missing_click_id", "click_id: missing"),
        ("https://t.example.com/postback", 400, "missing_click_id", "click_id: missing"),
        ("{}", 400, "missing_click_id", "click_id: missing"),
        ("{", 400, "bad_parameter", "body: not valid JSON at character 2"),
        ("[]", 400, "bad_parameter", "body: not a JSON object"),
        ('{"a": "\ud800"}', 400, "bad_parameter", "body: not valid UTF-8"),
    ],
)
async def test_what_cannot_be_read_is_invalid(text: str, status: int, reason: str, detail: str) -> None:
    made = await simulated(text)
    assert (made.verdict, made.reason, made.detail, made.answer.status) == ("invalid", reason, detail, status)
    assert (made.conversion_id, made.claim, made.record) == (None, None, {})
    assert found(made)["postback"] == f"cannot be read: {detail}"


async def test_conflict_names_both_amounts() -> None:
    made = await simulated("click_id=c&goal=purchase&txn_id=T&sale_amount=6")
    assert made.verdict == "conflict"
    assert made.claim == ClaimState(Standing.HELD, "1001:T", "6USD", "5USD")
    assert found(made)["claimed"] == "yes: with 5USD, not with 6USD, not counted again"


async def test_each_one_counts_where_nothing_is_claimed() -> None:
    made = await simulated("click_id=c&goal=each")
    assert (made.verdict, made.claim) == ("accepted", ClaimState(Standing.NONE, None, ""))


async def test_a_repeat_with_a_status_moves_the_first() -> None:
    made = await simulated("click_id=c&status=rejected")
    assert made.verdict == "duplicate"
    assert found(made)["status"] == "the conversion that was counted first becomes rejected"
    assert made.record["status"] == "rejected"
    assert "status" not in found(await simulated("click_id=c"))


async def test_macros_that_nobody_filled_in_are_shown() -> None:
    made = await simulated("click_id=c&txn_id={txn_id}&goal=%20%7Bgoal%7D&sub1={sub1}&order={order}")
    assert found(made)["macros"] == "not filled in, so missing: txn_id = {txn_id}, goal = {goal}"
    own = await simulated("click_id=token&order=%24{(id)!}&secret=wrong")
    assert found(own)["macros"] == "not filled in, so missing: order = ${(id)!}"
    assert "macros" not in found(await simulated("click_id=c"))


async def test_tokens_are_never_shown() -> None:
    made = await simulated("click_id=token&order=1&secret=wr0ng")
    assert (made.verdict, made.reason, made.answer.status) == ("rejected", "bad_token", 403)
    assert found(made)["token"] == "given"
    assert "wr0ng" not in repr(made)


async def test_address_is_what_was_said() -> None:
    held = Held(**{"4000:": b""})
    text = "click_id=network&goal=install"
    assert (await simulated(text, held)).reason == "address_not_allowed"
    assert (await simulated(text, held, remote_ip="198.51.100.1")).reason == "address_not_allowed"
    assert (await simulated(text, held, remote_ip="192.0.2.9")).verdict == "duplicate"


async def test_answer_is_in_the_advertisers_shape() -> None:
    made = await simulated("click_id=pixel&goal=install", Held(**{"3000:": b""}))
    assert (made.answer.status, made.answer.content_type, made.answer.body) == (200, "image/gif", None)


async def test_redis_away_is_raised() -> None:
    with pytest.raises(QueueUnavailableError):
        await simulated("click_id=c", Away())
