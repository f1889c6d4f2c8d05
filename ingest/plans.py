"""What compiled code is told of the catalog: which postbacks may be plain at all, and what they are worth. Pure.

Rates are chosen, amounts computed and tokens judged here, by what does it for all others too.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from ingest import money
from ingest.addresses import stored_address
from ingest.catalog import Advertiser, Campaign, Goal, Snapshot, Status
from ingest.compiled.plain import AdvertiserPlan, CampaignPlan, GoalPlan, Layout, Plain, Priced
from ingest.decide import Rules, is_token, is_unassigned, rate_in_force
from ingest.iso import CURRENCIES
from ingest.reading import CLICK_ID_NAMES, Reading
from ingest.reasons import Reason
from ingest.wire import FIELDS
from storage.records import NULL, escape

_ACTIVE: Final = Status.ACTIVE
_LONGEST_MS: Final = 2**48
"""Windows and least ages beyond are computed by the rules alone, which have no largest number."""


def make_plain(snapshot: Snapshot, rules: Rules) -> Plain:
    """What decides plain postbacks under this snapshot."""
    planner = _Planner(snapshot, rules)
    return Plain(planner.click_place, planner.campaign, partial(stored_address, kept=rules.addresses))


class _Planner:
    """What compiled code asks about one snapshot, each thing once."""

    def __init__(self, snapshot: Snapshot, rules: Rules) -> None:
        self._snapshot = snapshot
        self._rules = rules
        self._click_names = CLICK_ID_NAMES | snapshot.click_id_names
        self._advertisers: dict[int, AdvertiserPlan] = {}

    def click_place(self, names: tuple[str, ...]) -> int:
        """Which of the names is the only one that can give the click_id, whoever's postback it is; -1: none is."""
        places = [place for place, name in enumerate(names) if name in self._click_names]
        return places[0] if len(places) == 1 else -1

    def campaign(self, campaign_id: int) -> CampaignPlan | None:
        """Its plan, or None: those are left to the rules whose senders prove more than a token, or are held to a
        rate, and those with caps."""
        campaign = self._snapshot.campaigns.get(campaign_id)
        if campaign is None or campaign.status is not _ACTIVE or campaign.currency not in CURRENCIES:
            return None
        advertiser = campaign.advertiser
        if advertiser.allowed_networks or advertiser.signing_keys or advertiser.rate_limit is not None:
            return None
        if any(goal.caps for goal in campaign.goals.values()):
            return None
        window_ms = self._rules.window_ms if campaign.window_ms is None else campaign.window_ms
        min_age_ms = self._rules.min_age_ms if campaign.min_age_ms is None else campaign.min_age_ms
        if max(window_ms, min_age_ms) > _LONGEST_MS:
            return None
        goals = {
            value.encode(): self._goal(campaign, goal)
            for value, goal in campaign.goals.items()
            if goal.status is _ACTIVE and value.isascii()
        }
        default = campaign.default_goal
        return CampaignPlan(
            self._advertiser(advertiser),
            window_ms,
            min_age_ms,
            campaign.currency.encode(),
            goals,
            self._goal(campaign, default) if default is not None and default.status is _ACTIVE else None,
            partial(self._convert, campaign),
        )

    def _advertiser(self, advertiser: Advertiser) -> AdvertiserPlan:
        plan = self._advertisers.get(advertiser.id)
        if plan is None:
            accepts = partial(is_token, advertiser) if advertiser.token_digests else None
            layout = partial(self._layout, self._snapshot.reading(advertiser))
            plan = self._advertisers[advertiser.id] = AdvertiserPlan(layout, accepts, advertiser.profile)
        return plan

    def _goal(self, campaign: Campaign, goal: Goal) -> GoalPlan:
        priced = partial(self._priced, campaign, goal)
        return GoalPlan(goal.id, goal.track_multiple, escape(goal.implied_status).encode(), priced)

    def _layout(self, reading: Reading, names: tuple[str, ...]) -> Layout | None:
        places = reading.places(names)
        if places is None or "event_id" in places.params:  # it would meet our own
            return None
        params = [(f'"{name}":"'.encode(), place) for name, place in places.params.items()]
        return Layout(tuple(places.fields.get(field, -1) for field in FIELDS), params)

    def _priced(self, campaign: Campaign, goal: Goal, publisher_id: int, country: str | None) -> Priced | None:
        """None where no rate covers them, or it is too large."""
        found = goal.rate_for(publisher_id, country)
        if found is None:
            return None
        _, rate = found
        reason = Reason.GOAL_NOT_ASSIGNED if is_unassigned(goal, publisher_id) else None

        def amounts(sale_micros: int) -> bytes | None:
            revenue_micros, payout_micros = money.amounts(rate, sale_micros)
            if revenue_micros >= money.LIMIT_MICROS or payout_micros >= money.LIMIT_MICROS:
                return None
            return b"%d\t%d" % (revenue_micros, 0 if reason else payout_micros)

        fixed = None if rate.needs_sale else amounts(0)
        if fixed is None and not rate.needs_sale:
            return None
        ids = f"{campaign.advertiser.id}\t{publisher_id}\t{campaign.id}\t{goal.id}"
        before = f"\t{reason or NULL}\t{ids}\t{escape(goal.value)}\t{goal.version}\t"
        after = f"\t{country or NULL}\t{campaign.currency}\t"
        return Priced(before.encode(), after.encode(), fixed, amounts)

    def _convert(self, campaign: Campaign, currency: str, micros: int, at_ms: int) -> tuple[int, int] | None:
        """(micros in the campaign's currency, nanos of the rate); None where they cannot be converted."""
        rate_nanos = rate_in_force(self._snapshot, currency, campaign.currency, at_ms)
        if rate_nanos is None or currency not in CURRENCIES:
            return None
        converted = money.convert(micros, rate_nanos)
        return (converted, rate_nanos) if converted < money.LIMIT_MICROS else None
