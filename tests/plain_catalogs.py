"""Catalogs of all that a catalog can hold, for tests of compiled code."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TypeVar

from dedup.policy import TrackMultiple
from ingest.catalog import (
    Advertiser,
    Campaign,
    ExchangeRates,
    Goal,
    GoalType,
    PayoutOf,
    Profile,
    Rate,
    RateKey,
    Snapshot,
    Status,
    Terms,
)
from ingest.wire import STANDARD_ALIASES
from storage.statuses import held
from tests.catalogs import CLICKED_MS, advertiser, campaign, goal, snapshot
from tests.plain_values import CAP, GOALS, NANOS, OWN_NAMES, TOKENS

T = TypeVar("T")


def catalog_of(number: int) -> Snapshot:
    """One of endless catalogs: made of a number, since it would take long to draw each of its parts."""
    rng = random.Random(number)
    made = [_campaign(rng, place) for place in range(1, rng.randint(3, 4))]
    exchange = {
        ("EUR", "USD"): ExchangeRates((CLICKED_MS, CLICKED_MS + 1000), (rng.choice(NANOS), rng.choice(NANOS))),
        ("USD", "EUR"): ExchangeRates((0,), (rng.choice(NANOS),)),
        ("XYZ", "USD"): ExchangeRates((0,), (rng.choice(NANOS),)),
        ("GBP", "USD"): ExchangeRates((), ()),
    }
    catalog = snapshot(*made, exchange_rates=exchange)
    return replace(catalog, has_caps=any(one.caps for of in made for one in of.goals.values()))


def usually(rng: random.Random, usual: T, *others: T, share: float = 0.85) -> T:
    """`usual` for so large a share."""
    return usual if not others or rng.random() < share else rng.choice(others)


def _terms(rng: random.Random) -> Terms:
    fixed_micros = usually(rng, 2_000_000, 0, 1, 10**18 - 1, 10**18, rng.randrange(10**18))
    return Terms(fixed_micros, usually(rng, 0, 1, 10_000_000, 33_333_333, 100_000_000, 10**10 - 1, share=0.6))


def _rate(rng: random.Random) -> Rate:
    return Rate(_terms(rng), _terms(rng), rng.choice(list(PayoutOf)))


def _state(rng: random.Random) -> Status:
    return usually(rng, Status.ACTIVE, Status.PAUSED, Status.ARCHIVED, share=0.93)


def _goal(rng: random.Random, goal_id: int, value: str) -> Goal:
    rates: dict[RateKey, Rate] = {
        (rng.choice((None, 10, 11)), rng.choice((None, "US", "CA"))): _rate(rng) for _ in range(rng.randint(0, 2))
    }
    if rng.random() < 0.8:
        rates[None, None] = _rate(rng)
    if rng.random() < 0.5:
        rates = {key: Rate(Terms(rng.randrange(10**7)), Terms(rng.randrange(10**7))) for key in rates}
    made = goal(
        goal_id,
        value,
        rates=rates,
        kind=usually(rng, GoalType.PUBLIC, GoalType.PRIVATE, share=0.7),
        publishers=[10],
        track_multiple=rng.choice(list(TrackMultiple)),
        status=_state(rng),
        version=rng.choice([1, 2**31 - 1]),
    )
    implied = rng.choice(["approved", "pending", held(86_400_000)])
    return replace(made, caps=(CAP,) if rng.random() < 0.02 else (), implied_status=implied)


def _advertiser(rng: random.Random, number: int) -> Advertiser:
    fields = sorted(set(STANDARD_ALIASES.values()))
    own = rng.sample(OWN_NAMES, rng.randint(0, 3))
    made = advertiser(
        advertiser_id=number,
        tokens=rng.choice([(), (), TOKENS[:1], TOKENS]),
        aliases={name: rng.choice(fields) for name in own},
        profile=rng.choice(list(Profile)),
        signing_secrets=usually(rng, (), ("0123456789abcdef",), share=0.95),
        networks=usually(rng, (), ("192.0.2.0/24",), share=0.97),
    )
    return replace(made, rate_limit=usually(rng, None, 1, share=0.95))


def _campaign(rng: random.Random, number: int) -> Campaign:
    values = {value.casefold(): value for value in rng.sample(GOALS, rng.randint(1, 3))}
    goals = [_goal(rng, 1000 * number + place, value) for place, value in enumerate(values.values())]
    return campaign(
        *goals,
        default=rng.choice([goals[0], goals[-1], None]),
        campaign_id=99 + number,
        of=_advertiser(rng, number),
        currency=usually(rng, "USD", "EUR", "JPY", "usd", "XXX", "US"),
        status=_state(rng),
        window_ms=usually(rng, None, 1000, 0, 3650 * 86_400_000, share=0.9),
        min_age_ms=usually(rng, None, 0, 1, 1000),
    )
