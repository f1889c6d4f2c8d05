"""What `postback demo` sends: clicks and postbacks on the campaigns of ingest/sample/catalog.toml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class DemoClick:
    """A click to register, `age_ms` before the demo."""

    campaign_id: int
    publisher_id: int
    country: str
    age_ms: int


@dataclass(frozen=True, slots=True)
class DemoPostback:
    """One request. `items`: its postback, or those of a bulk; an asterisk stands for the run's own prefix."""

    what: str
    form: Literal["get", "form", "json", "bulk"]
    items: tuple[dict[str, str], ...]


CLICKS: Final = {
    "us": DemoClick(100, 10, "US", 10 * _MINUTE_MS),
    "fr": DemoClick(100, 10, "FR", 10 * _MINUTE_MS),
    "old": DemoClick(100, 10, "US", 31 * _DAY_MS),
    "shop": DemoClick(200, 10, "DE", _DAY_MS),
    "vip": DemoClick(200, 11, "IT", _DAY_MS),
    "bank": DemoClick(300, 11, "GB", 60 * _MINUTE_MS),
    "fresh": DemoClick(300, 11, "GB", 0),
}
"""By what follows the prefix in their ids. `nobody` is not among them."""


def _one(what: str, form: Literal["get", "form", "json"], **parameters: str) -> DemoPostback:
    return DemoPostback(what, form, (parameters,))


POSTBACKS: Final = (
    _one("too soon", "get", lead_ref="*-fresh", result="application"),
    _one("fixed price", "get", click_id="*-us", goal="install"),
    _one("the same again", "get", click_id="*-us", goal="install"),
    _one("share of the sale", "form", click_id="*-us", goal="purchase", txn_id="T1", sale_amount="49.99"),
    _one("its amount changed", "json", click_id="*-us", goal="purchase", txn_id="T1", sale_amount="59.99"),
    _one("sale in euros", "json", clickid="*-us", event="purchase", order_id="T2", amount="30", currency="EUR"),
    _one("own parameter names", "get", click_id="*-shop", order="T3", total="120", shop_key="demo-token"),
    _one("no token", "get", click_id="*-shop", order="T4", total="80"),
    _one(
        "private goal",
        "form",
        click_id="*-vip",
        goal="vip_order",
        txn_id="T5",
        sale_amount="200",
        security_token="demo-token",  # noqa: S106  the sample's
    ),
    _one("answer in text", "get", lead_ref="*-bank", result="application"),
    DemoPostback(
        "in bulk",
        "bulk",
        (
            {"click_id": "*-us", "goal": "ad_view", "event_id": "E1"},
            {"click_id": "*-us", "goal": "install"},
            {"click_id": "*-us", "goal": "purchase", "txn_id": "T6"},
        ),
    ),
    _one("unreadable amount", "get", click_id="*-us", goal="purchase", txn_id="T7", sale_amount="1,99"),
    _one("no exchange rate", "get", click_id="*-us", goal="purchase", txn_id="T8", sale_amount="900", currency="JPY"),
    _one("country not covered", "get", click_id="*-fr", goal="install"),
    _one("paused goal", "get", click_id="*-us", goal="level_10"),
    _one("no such goal", "get", click_id="*-us", goal="level_99"),
    _one("click too old", "get", click_id="*-old", goal="install"),
    _one("no such click", "get", click_id="*-nobody", goal="install"),
)
"""In the order in which they are sent: the first one must come within 5 s of its click."""
