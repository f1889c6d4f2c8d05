"""The event postback that an advertiser is handed: the URL to call, with macros for its own system to fill in. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

from dedup.policy import TrackMultiple
from ingest.catalog import Advertiser, Campaign, Goal


def event_url(base: str, path: str, campaign: Campaign, goal: Goal) -> str:
    """The URL with the parameters that bear on this goal, each under the advertiser's own name where it has one.

    `base` is where the receiver is reached ("https://t.example.com"), `path` one of its postback paths. A security
    token is a macro too: tokens are kept as digests and cannot be shown.
    """
    query = "&".join(
        f"{quote(_name(campaign.advertiser, field), safe='')}={value}" for field, value in _parameters(campaign, goal)
    )
    return f"{base.rstrip('/')}{path}?{query}"


def find_goal(campaign: Campaign, id_or_value: str) -> Goal | None:
    """The campaign's goal by its value (without regard to case) or its id; a value wins over another goal's id."""
    by_value = campaign.goals.get(id_or_value.casefold())
    if by_value is not None:
        return by_value
    return next((goal for goal in campaign.goals.values() if str(goal.id) == id_or_value), None)


def _parameters(campaign: Campaign, goal: Goal) -> Iterator[tuple[str, str]]:
    """(standard name, value as it stands in the URL)"""
    yield "click_id", "{click_id}"
    yield "goal", quote(goal.value, safe="")
    if goal.track_multiple is TrackMultiple.YES_WITH_TXN_ID:
        yield "txn_id", "{txn_id}"
    if goal.track_multiple is TrackMultiple.YES:
        yield "event_id", "{event_id}"
    if any(rate.needs_sale for rate in goal.rates.values()):
        yield "sale_amount", "{sale_amount}"
        yield "currency", "{currency}"
    if campaign.advertiser.token_digests:
        yield "security_token", "{security_token}"


def _name(advertiser: Advertiser, field: str) -> str:
    """What the advertiser calls the field. Of several names none can be chosen: then the standard one, which always
    works."""
    own = [name for name, standard in advertiser.aliases.items() if standard == field]
    return own[0] if len(own) == 1 else field
