"""What is sent: clicks of the sample catalog's campaigns and postbacks such as senders make. All from one seed."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote
from uuid import UUID

import orjson

from storage.rows import NewClick

MINUTE_MS: Final = 60_000
DAY_MS: Final = 86_400_000
YOUNGEST_MS: Final = 10 * MINUTE_MS
OLDEST_MS: Final = 6 * DAY_MS
"""Within the windows of all campaigns of the sample."""

LEAST_NAMES: Final = 6
MOST_NAMES: Final = 14
SENDERS: Final = 4
"""Templates for each number of extra names."""

_HEADERS: Final = b"Host: postback.example\r\nUser-Agent: sender/4.2 (+https://sender.example/docs)\r\nAccept: */*\r\n"
_COUNTRIES: Final = {100: ("US", "US", "US", "CA", "GB", "DE", "AU"), 200: ("DE", "AT", "FR", "US"), 300: ("GB",)}
_CAMPAIGNS: Final = (100, 100, 100, 100, 100, 100, 200, 200, 200, 300)
_PUBLISHERS: Final = (10, 10, 11, 12)

_EXTRAS: Final = (
    "device_model", "os_version", "app_version", "country_code", "city", "ip", "user_agent", "campaign_name", "adset",
    "creative", "site_id", "idfa", "install_time", "event_time", "status",
)  # fmt: skip
"""What senders add beside what counts. The last two are names that the product reads."""

Params = dict[str, str]


@dataclass(frozen=True, slots=True)
class Postback:
    """One postback to send: names and values in order, and whether it must be rejected."""

    params: Params
    is_rejection: bool = False


def make_clicks(rng: random.Random, count: int, now_ms: int) -> list[NewClick]:
    """Clicks with ids of 128 random bits."""
    clicks = []
    for _ in range(count):
        campaign_id = rng.choice(_CAMPAIGNS)
        clicks.append(
            NewClick(
                click_id=f"{rng.getrandbits(128):032x}",
                campaign_id=campaign_id,
                publisher_id=rng.choice(_PUBLISHERS),
                clicked_ms=now_ms - rng.randrange(YOUNGEST_MS, OLDEST_MS),
                country=rng.choice(_COUNTRIES[campaign_id]),
            )
        )
    return clicks


def make_postbacks(rng: random.Random, clicks: Sequence[NewClick], *, rejected: float = 0.0) -> Iterator[Postback]:
    """One for each click, with 6 to 14 names, each counted but for the share `rejected`."""
    templates = _templates(rng)
    for number, click in enumerate(clicks):
        params = _counted(rng, click, number)
        is_rejection = rng.random() < rejected
        if is_rejection:
            _spoil(rng, params)
        _add_extras(rng, params, rng.choice(templates))
        yield Postback(params, is_rejection)


def _counted(rng: random.Random, click: NewClick, number: int) -> Params:
    """What the campaign's advertiser sends for one of its goals."""
    amount = f"{rng.randrange(1, 400)}.{rng.randrange(100):02}"
    txn_id = f"GPA.{rng.randrange(10_000):04}-{number:08}"
    if click.campaign_id == 200:
        goal = rng.choice(("order", "order", "vip_order"))
        currency = rng.choice(("EUR", "EUR", "USD"))
        token = {"shop_key": "demo-token"}
        return {
            "click_id": click.click_id,
            "goal": goal,
            "order": txn_id,
            "total": amount,
            "currency": currency,
            **token,
        }
    if click.campaign_id == 300:
        return {"lead_ref": click.click_id, "result": rng.choice(("application", "issued")), "txn_id": txn_id}
    match rng.choice(("install", "install", "purchase", "ad_view")):
        case "purchase":
            params = {"goal": "purchase", "txn_id": txn_id, "sale_amount": amount, "currency": "USD"}
        case "ad_view":
            params = {"goal": "ad_view", "event_id": f"{rng.getrandbits(64):016x}"}
        case _:
            params = {"goal": "install", "txn_id": txn_id}
    return {"click_id": click.click_id} | params


def _spoil(rng: random.Random, params: Params) -> None:
    """Make it one that must be rejected."""
    match rng.randrange(4):
        case 0:
            name = "lead_ref" if "lead_ref" in params else "click_id"
            params[name] = f"{rng.getrandbits(128):032x}"
        case 1:
            params["result" if "result" in params else "goal"] = "level_99"
        case 2:
            params["total" if "total" in params else "sale_amount"] = "12,50"
        case _:
            params["currency"] = "XYZ"
            params.setdefault("total" if "total" in params else "sale_amount", "12.50")


def _templates(rng: random.Random) -> list[list[str]]:
    """What senders add: each has set up its postbacks once, and gives the same names in the same order each time."""
    return [rng.sample(_EXTRAS, count) for count in range(10) for _ in range(SENDERS)]


def _add_extras(rng: random.Random, params: Params, extras: Sequence[str]) -> None:
    own = len(params)
    for name in extras[: MOST_NAMES - own]:
        params[name] = _extra(rng, name)
    for name in _EXTRAS:
        if len(params) >= LEAST_NAMES:
            break
        params.setdefault(name, _extra(rng, name))


def _extra(rng: random.Random, name: str) -> str:
    match name:
        case "device_model":
            return rng.choice(("iPhone16,2", "SM-S928B", "Pixel 9 Pro", "Redmi Note 13"))
        case "os_version" | "app_version":
            return f"{rng.randrange(8, 19)}.{rng.randrange(9)}.{rng.randrange(20)}"
        case "country_code":
            return rng.choice(("US", "GB", "DE"))
        case "city":
            return rng.choice(("New York", "München", "São Paulo", "London"))
        case "ip":
            return f"203.0.113.{rng.randrange(1, 255)}"
        case "user_agent":
            return f"Mozilla/5.0 (Linux; Android {rng.randrange(10, 16)}; K) Chrome/{rng.randrange(100, 140)}.0.0.0"
        case "campaign_name":
            return f"Q{rng.randrange(1, 5)} | {rng.choice(('US', 'EU'))} | Lookalike {rng.randrange(1, 10)}%"
        case "idfa":
            return str(UUID(int=rng.getrandbits(128), version=4)).upper()
        case "install_time" | "event_time":
            return str(1_790_000_000 + rng.randrange(10_000_000))
        case "status":
            return rng.choice(("approved", "approved", "approved", "pending"))
        case _:
            return f"{name}_{rng.getrandbits(24):06x}"


def get_request(postback: Postback) -> bytes:
    """The whole request: GET, the query percent-encoded, three headers."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in postback.params.items())
    return b"GET /postback?" + query.encode() + b" HTTP/1.1\r\n" + _HEADERS + b"\r\n"


def bulk_request(postbacks: Sequence[Postback]) -> bytes:
    """The whole request: POST /postbacks with NDJSON."""
    body = b"\n".join([orjson.dumps(postback.params) for postback in postbacks])
    head = b"POST /postbacks HTTP/1.1\r\n" + _HEADERS + b"Content-Type: application/x-ndjson\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body
