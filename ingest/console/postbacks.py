"""The event postback of a goal, to hand to the advertiser, and a test of it that writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from dedup.port import QueueUnavailableError
from ingest.catalog import Campaign, Goal, Snapshot
from ingest.catalog_change import Kind
from ingest.catalog_service import CatalogService, NoSuchError
from ingest.console.formats import machine_time
from ingest.console.visits import RefusedError, Route, Visit
from ingest.decide import Rules
from ingest.event_url import EventUrl, Filled, Parameter, event_url
from ingest.senders import SENDERS, UnknownSenderError, find_sender
from ingest.simulation import Claims, Simulation, Taken, simulate
from storage.activity import fetch_recent_clicks
from storage.postgres import Pool

_GIVEN: Final = "given."
"""What stands before the names of the test's inputs."""
_MAX_GIVEN: Final = 4_096


class Postbacks:
    """The handlers. `path`: where postbacks are taken."""

    def __init__(
        self,
        service: CatalogService,
        pool: Pool,
        claims: Claims,
        caps: Taken,
        snapshot: Callable[[], Snapshot],
        rules: Rules,
        path: str,
    ) -> None:
        self._service = service
        self._pool = pool
        self._claims = claims
        self._caps = caps
        self._snapshot = snapshot
        self._rules = rules
        self._path = path

    def routes(self) -> Sequence[Route]:
        """What there is."""
        return (
            Route("GET", "/goals/{id}/postback", self._page),
            Route("POST", "/goals/{id}/postback", self._test),
        )

    async def _page(self, visit: Visit) -> web.Response:
        campaign, goal = await self._goal(visit)
        made = self._url(visit, campaign, goal)
        clicks = await fetch_recent_clicks(self._pool, campaign.id)
        return await self._show(visit, campaign, goal, made, clicks, _samples(made.parameters, campaign, clicks))

    async def _test(self, visit: Visit) -> web.Response:
        campaign, goal = await self._goal(visit)
        made = self._url(visit, campaign, goal)
        clicks = await fetch_recent_clicks(self._pool, campaign.id)
        given = {one.field: visit.form.text(_GIVEN + one.field)[:_MAX_GIVEN] for one in made.parameters}
        pairs = [
            (one.name, goal.value if one.field == "goal" else given[one.field])
            for one in made.parameters
            if one.field == "goal" or given[one.field]
        ]
        networks = campaign.advertiser.allowed_networks
        try:
            result = await simulate(
                urlencode(pairs),
                self._snapshot(),
                self._rules,
                self._claims,
                self._pool,
                remote_ip=str(networks[0].network_address) if networks else None,
                caps=self._caps,
            )
        except QueueUnavailableError as error:
            raise RefusedError(503, f"Redis cannot be asked: {error}. Try again in a moment.") from None
        return await self._show(visit, campaign, goal, made, clicks, given, result)

    async def _show(
        self,
        visit: Visit,
        campaign: Campaign,
        goal: Goal,
        made: EventUrl,
        clicks: Sequence[str],
        given: dict[str, str],
        result: Simulation | None = None,
    ) -> web.Response:
        return await visit.page(
            "postback.html",
            campaign=campaign,
            goal=goal,
            made=made,
            senders=[(sender.name, sender.title) for sender in SENDERS.values()],
            clicks=clicks,
            given={key: value for key, value in given.items() if key != "security_token"},
            result=result,
            with_time=visit.query("event_time") == "true",
            filled=Filled,
        )

    def _url(self, visit: Visit, campaign: Campaign, goal: Goal) -> EventUrl:
        try:
            sender = find_sender(visit.query("sender") or "generic")
        except UnknownSenderError as error:
            raise RefusedError(404, f"{error}.") from None
        with_time = visit.query("event_time") == "true"
        return event_url(visit.origin, self._path, campaign, goal, sender, with_time=with_time)

    async def _goal(self, visit: Visit) -> tuple[Campaign, Goal]:
        """(its campaign, the goal), as decisions know them."""
        key = visit.number("id")
        found = await self._service.get(Kind.GOAL, key)
        campaign = await self._service.campaign(visit.number_of(str(found["campaign"])))
        goal = next((goal for goal in campaign.goals.values() if goal.id == key), None)
        if goal is None:
            raise NoSuchError(Kind.GOAL, key)
        return campaign, goal


def _samples(parameters: Sequence[Parameter], campaign: Campaign, clicks: Sequence[str]) -> dict[str, str]:
    """Something to begin with in each of the test's inputs."""
    known = {
        "click_id": clicks[0] if clicks else "click-1001",
        "txn_id": "test-1001",
        "event_id": "test-event-1001",
        "sale_amount": "49.99",
        "currency": campaign.currency,
        "event_time": machine_time(datetime.now(UTC)),
    }
    return {one.field: known.get(one.field, "") for one in parameters}
