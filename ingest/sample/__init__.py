"""A small catalog and clicks to try the program with."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from storage.rows import NewClick

CATALOG: Final = Path(__file__).parent / "catalog.toml"

_MINUTE_MS: Final = 60_000
_DAY_MS: Final = 86_400_000
_TRACKED: Final = {"sub1": "demo", "source": "sample"}

_CLICKS: Final = (
    # click id, campaign, publisher, age in ms, country
    *((f"demo-us-{n}", 100, 10, n * 10 * _MINUTE_MS, "US") for n in range(1, 6)),
    *((f"demo-ca-{n}", 100, 10, n * 20 * _MINUTE_MS, "CA") for n in range(1, 3)),
    *((f"demo-gb-{n}", 100, 12, n * 30 * _MINUTE_MS, "GB") for n in range(1, 3)),
    *((f"demo-south-{n}", 100, 11, n * 40 * _MINUTE_MS, "US") for n in range(1, 4)),
    ("demo-outside", 100, 10, 50 * _MINUTE_MS, "FR"),
    ("demo-nowhere", 100, 10, 50 * _MINUTE_MS, None),
    ("demo-expired", 100, 10, 40 * _DAY_MS, "US"),
    *((f"demo-shop-{n}", 200, 10, n * 2 * _DAY_MS, "DE") for n in range(1, 5)),
    *((f"demo-shop-fr-{n}", 200, 12, n * _DAY_MS, "FR") for n in range(1, 4)),
    ("demo-shop-unlisted", 200, 11, _DAY_MS, "IT"),
    *((f"demo-bank-{n}", 300, 11, n * 60 * _MINUTE_MS, "GB") for n in range(1, 4)),
    ("demo-bank-unlisted", 300, 12, 60 * _MINUTE_MS, "GB"),
    ("demo-bank-expired", 300, 11, 8 * _DAY_MS, "GB"),
    ("demo-no-campaign", 999, 10, 10 * _MINUTE_MS, "US"),
)


def sample_clicks(now_ms: int) -> list[NewClick]:
    """Clicks on the sample catalog's campaigns, at times before `now_ms`; their ids are always the same.

    `demo-us-1` is good for every goal of campaign 100. `demo-expired` is older than its campaign's window,
    `demo-outside` and `demo-nowhere` (country not known) are not covered by the install's rates, `demo-shop-unlisted`
    is of a publisher that the private goal is not for, `demo-no-campaign` is of a campaign that does not exist.
    """
    return [
        NewClick(click_id, campaign_id, publisher_id, now_ms - age_ms, country, _TRACKED)
        for click_id, campaign_id, publisher_id, age_ms, country in _CLICKS
    ]
