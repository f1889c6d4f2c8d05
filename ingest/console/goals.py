"""Goals: the form with every field of the panel, and the history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from aiohttp import web

from dedup.policy import TrackMultiple
from ingest.catalog import Approval, Status
from ingest.catalog_change import Kind
from ingest.catalog_documents import Document
from ingest.catalog_file import CatalogError
from ingest.catalog_service import CatalogService
from ingest.catalog_views import row_of
from ingest.console.campaigns import CAP_CHOICES
from ingest.console.editing import HISTORY_ROWS, Trouble, history_page, publisher_names, saved, trouble_with
from ingest.console.fields import (
    Assigned,
    GoalFields,
    Model,
    RateFields,
    change_rows,
    form_problems,
    goal_document,
    goal_fields,
    rate_document,
    read_goal,
)
from ingest.console.formats import margin_text
from ingest.console.pages import go_to
from ingest.console.sessions import PATH
from ingest.console.visits import Route, Visit
from ingest.margins import margin_document, payout_warnings
from ingest.vault import Vault
from storage.rows import GoalRow

_CHOICES: Final = {
    "statuses": list(Status),
    "policies": [TrackMultiple.NO, TrackMultiple.YES, TrackMultiple.YES_WITH_TXN_ID],
    "approvals": list(Approval),
    "assigned": list(Assigned),
    "models": list(Model),
}


class Goals:
    """The handlers. `vault`: rates are read by the rules of the whole catalog, which want one."""

    def __init__(self, service: CatalogService, vault: Vault) -> None:
        self._service = service
        self._vault = vault

    def routes(self) -> Sequence[Route]:
        """What there is."""
        return (
            Route("GET", "/campaigns/{id}/goals/new", self._new),
            Route("POST", "/campaigns/{id}/goals/new", self._create),
            Route("GET", "/goals/{id}/edit", self._edit),
            Route("POST", "/goals/{id}/edit", self._save),
            Route("GET", "/goals/{id}/history", self._history),
        )

    async def _new(self, visit: Visit) -> web.Response:
        visit.must_be_editor()
        campaign = await self._service.get(Kind.CAMPAIGN, visit.number("id"))
        return await self._form(visit, campaign, None, GoalFields(rates=[RateFields()]))

    async def _edit(self, visit: Visit) -> web.Response:
        visit.must_be_editor()
        goal, campaign = await self._goal(visit)
        return await self._form(visit, campaign, goal, goal_fields(goal))

    async def _create(self, visit: Visit) -> web.Response:
        campaign = await self._service.get(Kind.CAMPAIGN, visit.number("id"))
        fields = read_goal(visit.form)

        async def save() -> Document:
            document = {**goal_document(fields), "campaign": campaign["id"]}
            return await self._service.create(Kind.GOAL, document, visit.holder.name)

        return await self._submitted(visit, campaign, None, fields, save)

    async def _save(self, visit: Visit) -> web.Response:
        goal, campaign = await self._goal(visit)
        fields = read_goal(visit.form)
        read = {**goal, "version": visit.number_of(visit.form.text("version"))}

        async def save() -> Document:
            return await self._service.patch(
                Kind.GOAL, goal["id"], goal_document(fields), read["version"], visit.holder.name
            )

        return await self._submitted(visit, campaign, read, fields, save)

    async def _submitted(
        self,
        visit: Visit,
        campaign: Document,
        goal: dict[str, Any] | None,
        fields: GoalFields,
        save: Callable[[], Awaitable[Document]],
    ) -> web.Response:
        """Saved, or the form again: with a row more or less, with margins worked out, or with what is wrong."""
        action = visit.form.text("do")
        focus = change_rows(fields, action)
        if focus is not None or action == "check":
            return await self._form(visit, campaign, goal, fields, focus=focus)
        problems = list(form_problems(fields))
        made: Document | Trouble = trouble_with(problems)
        if not problems:
            key, version = (goal["id"], goal["version"]) if goal else (0, 0)
            made = await saved(self._service, Kind.GOAL, key, version, save)
        if isinstance(made, Trouble):
            return await self._form(visit, campaign, goal, fields, made)
        return go_to(f"{PATH}/campaigns/{campaign['id']}#goal-{made['id']}")

    async def _form(
        self,
        visit: Visit,
        campaign: Document,
        goal: Document | None,
        fields: GoalFields,
        trouble: Trouble | None = None,
        *,
        focus: str | None = None,
    ) -> web.Response:
        trouble = trouble or Trouble()
        publishers = await publisher_names(self._service)
        chosen = [int(one) for one in fields.publishers if one.isdigit() and int(one) not in publishers]
        return await visit.page(
            "goal_form.html",
            trouble.status,
            campaign=campaign,
            goal=goal,
            fields=fields,
            trouble=trouble,
            focus=focus,
            margins=[self._margin(rate, fields.model, str(campaign["currency"])) for rate in fields.rates],
            publishers=publishers,
            further=chosen,
            choices=_CHOICES,
            cap_choices=CAP_CHOICES,
        )

    def _margin(self, rate: RateFields, model: str, currency: str) -> tuple[str, str]:
        """(the rate's margin, a warning) in words; both empty while the rate cannot be read."""
        given = {"id": 1, "campaign": 1, "title": "-", "value": "-", "rates": [rate_document(rate, model)]}
        try:
            row = row_of(Kind.GOAL, given, self._vault)
        except CatalogError:
            return "", ""
        assert isinstance(row, GoalRow), "a goal was asked for"
        warning = next((f"The payout {problem.detail}." for problem in payout_warnings(row.rates)), "")
        return margin_text(margin_document(row.rates[0]), currency), warning

    async def _goal(self, visit: Visit) -> tuple[dict[str, Any], dict[str, Any]]:
        """(goal, its campaign)."""
        goal: dict[str, Any] = await self._service.get(Kind.GOAL, visit.number("id"))
        return goal, await self._service.get(Kind.CAMPAIGN, goal["campaign"])

    async def _history(self, visit: Visit) -> web.Response:
        goal, campaign = await self._goal(visit)
        page = await self._service.history({"kind": Kind.GOAL.value, "id": str(goal["id"])}, limit=HISTORY_ROWS)
        back = (f"{PATH}/campaigns/{campaign['id']}", str(campaign["name"]))
        return await history_page(visit, f"History of {goal['title']}", back, page.items)
