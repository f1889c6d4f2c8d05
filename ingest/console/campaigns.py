"""Campaigns: the list, a campaign's page, its form, its history."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from aiohttp import web

from ingest.catalog import CapAction, CapMeasure, CapPeriod, Standing, Status
from ingest.catalog_change import Kind
from ingest.catalog_documents import Document
from ingest.catalog_service import MAX_PAGE, CatalogService, NoSuchError
from ingest.console.editing import HISTORY_ROWS, Trouble, history_page, names_of, publisher_names, saved
from ingest.console.fields import CampaignFields, campaign_document, campaign_fields, change_rows, read_campaign
from ingest.console.pages import go_to
from ingest.console.sessions import PATH
from ingest.console.visits import Route, Visit
from ingest.iso import CURRENCIES

CAP_CHOICES: Final = {"measures": list(CapMeasure), "periods": list(CapPeriod), "actions": list(CapAction)}
LIST_ROWS: Final = 50


class Campaigns:
    """The handlers."""

    def __init__(self, service: CatalogService) -> None:
        self._service = service

    def routes(self) -> Sequence[Route]:
        """What there is."""
        return (
            Route("GET", "/campaigns", self._list),
            Route("GET", "/campaigns/new", self._new),
            Route("POST", "/campaigns/new", self._create),
            Route("GET", "/campaigns/{id}", self._page),
            Route("GET", "/campaigns/{id}/edit", self._edit),
            Route("POST", "/campaigns/{id}/edit", self._save),
            Route("GET", "/campaigns/{id}/history", self._history),
        )

    async def _list(self, visit: Visit) -> web.Response:
        filters = {key: value for key in ("search", "status", "advertiser") if (value := visit.query(key))}
        page = await self._service.page(Kind.CAMPAIGN, filters, visit.query("cursor"), LIST_ROWS)
        advertisers = await self._service.page(Kind.ADVERTISER, {}, limit=MAX_PAGE)
        more = page.next_cursor and f"{PATH}/campaigns?{urlencode({**filters, 'cursor': page.next_cursor})}"
        return await visit.page(
            "campaigns.html",
            campaigns=page.items,
            advertisers=names_of(advertisers.items),
            filters=filters,
            statuses=list(Status),
            more=more,
        )

    async def _page(self, visit: Visit) -> web.Response:
        campaign = await self._service.get(Kind.CAMPAIGN, visit.number("id"))
        advertiser = await self._service.get(Kind.ADVERTISER, _number(campaign["advertiser"]))
        goals = await self._service.page(Kind.GOAL, {"campaign": str(campaign["id"])}, visit.query("cursor"))
        return await visit.page(
            "campaign.html",
            campaign=campaign,
            advertiser=advertiser,
            goals=goals.items,
            more=goals.next_cursor,
            publishers=await publisher_names(self._service),
        )

    async def _new(self, visit: Visit) -> web.Response:
        visit.must_be_editor()
        return await self._form(visit, None, CampaignFields(currency="USD"))

    async def _edit(self, visit: Visit) -> web.Response:
        visit.must_be_editor()
        campaign = await self._service.get(Kind.CAMPAIGN, visit.number("id"))
        return await self._form(visit, campaign, campaign_fields(campaign))

    async def _create(self, visit: Visit) -> web.Response:
        fields = read_campaign(visit.form)
        if (focus := change_rows(fields, visit.form.text("do"))) is not None:
            return await self._form(visit, None, fields, focus=focus)
        document = campaign_document(fields)
        made = await saved(
            self._service, Kind.CAMPAIGN, 0, 0, lambda: self._service.create(Kind.CAMPAIGN, document, visit.holder.name)
        )
        if isinstance(made, Trouble):
            return await self._form(visit, None, fields, made)
        return go_to(f"{PATH}/campaigns/{made['id']}")

    async def _save(self, visit: Visit) -> web.Response:
        key, fields = visit.number("id"), read_campaign(visit.form)
        version = visit.number_of(visit.form.text("version"))
        if (focus := change_rows(fields, visit.form.text("do"))) is None:
            patch = campaign_document(fields)
            made = await saved(
                self._service,
                Kind.CAMPAIGN,
                key,
                version,
                lambda: self._service.patch(Kind.CAMPAIGN, key, patch, version, visit.holder.name),
            )
            if not isinstance(made, Trouble):
                return go_to(f"{PATH}/campaigns/{key}")
        else:
            made = Trouble()
        campaign = await self._service.get(Kind.CAMPAIGN, key)
        return await self._form(visit, {**campaign, "version": version}, fields, made, focus=focus)

    async def _form(
        self,
        visit: Visit,
        campaign: Document | None,
        fields: CampaignFields,
        trouble: Trouble | None = None,
        *,
        focus: str | None = None,
    ) -> web.Response:
        advertisers = await self._service.page(Kind.ADVERTISER, {"status": Standing.ACTIVE.value}, limit=MAX_PAGE)
        trouble = trouble or Trouble()
        return await visit.page(
            "campaign_form.html",
            trouble.status,
            campaign=campaign,
            fields=fields,
            trouble=trouble,
            focus=focus,
            advertisers=names_of(advertisers.items),
            publishers=await publisher_names(self._service),
            currencies=sorted(CURRENCIES),
            statuses=list(Status),
            cap_choices=CAP_CHOICES,
        )

    async def _history(self, visit: Visit) -> web.Response:
        campaign = await self._service.get(Kind.CAMPAIGN, visit.number("id"))
        page = await self._service.history({"campaign": str(campaign["id"])}, limit=HISTORY_ROWS)
        back = (f"{PATH}/campaigns/{campaign['id']}", str(campaign["name"]))
        return await history_page(visit, f"History of {campaign['name']} and its goals", back, page.items)


def _number(value: object) -> int:
    if not isinstance(value, int):
        raise NoSuchError(Kind.ADVERTISER, str(value))
    return value
