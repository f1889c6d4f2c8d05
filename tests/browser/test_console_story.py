"""The whole story of the console in a real browser: a campaign, three goals, its event postback, live, two versions.

`SCREENSHOTS=folder` keeps the pictures there, more of them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from storage.rollups import fold
from tests import servers
from tests.chromium import Browser, Page, chromium, find_chromium
from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample
from tests.program import Program, running

KEEP = os.environ.get("SCREENSHOTS")
NAME = "Story <b>CPA</b> & Söhne"


@dataclass(frozen=True, slots=True)
class World:
    program: Program
    dsn: str


@pytest.fixture
def world(
    postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer, tmp_path: Path
) -> Iterator[World]:
    with postgres_server.database(servers.TEMPLATE) as dsn:
        asyncio.run(load_sample(dsn))
        valkey_server.flush()
        with running(tmp_path / "data", valkey_server.url, dsn) as program:
            yield World(program, dsn)


@dataclass(slots=True)
class Story:
    """One person at the console, and an advertiser who sends."""

    page: Page
    browser: Browser
    client: Client
    root: str
    pictures: Path
    taken: int = 0

    async def picture(self, name: str, *, whole: bool = False) -> None:
        self.taken += 1
        await self.page.picture(self.pictures / f"{self.taken:02}-{name}.png", whole=whole)

    async def looks(self, name: str, *, whole: bool = True) -> None:
        """Pictures: in light, and for people who look at them in dark and narrow too."""
        await self.picture(f"{name}-light", whole=whole and KEEP is not None)
        if KEEP is not None:
            await self.page.prefer("dark")
            await self.picture(f"{name}-dark", whole=whole)
            await self.page.prefer("light")
        await self.page.size(400, 850)
        if KEEP is not None:
            await self.picture(f"{name}-narrow", whole=whole)
        wide = await self.page.ask("document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than a phone"
        await self.page.size(1280, 900)

    async def go(self, path: str) -> None:
        await self.page.go(f"{self.root}{path}")


@asynccontextmanager
async def telling(world: World, folder: Path) -> AsyncIterator[Story]:
    program = find_chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: install chromium-headless-shell, or name one in CHROMIUM")
    pictures = Path(KEEP or folder / "pictures")
    await asyncio.to_thread(pictures.mkdir, parents=True, exist_ok=True)
    async with chromium(program, folder / "browser") as browser, client_of(world.program, world.dsn) as client:
        page = await browser.page()
        yield Story(page, browser, client, f"{world.program.url}/console", pictures)
        assert page.complaints == []


async def test_the_story(world: World, tmp_path: Path) -> None:
    async with telling(world, tmp_path) as story:
        await log_in(story, world.program.admin_key)
        campaign_id = await make_campaign(story)
        await make_goals(story)
        await story.looks("campaign")
        url = await copy_event_postback(story)
        await send_test(story)

        log = await open_log(story)
        await story.client.register("story-1", campaign_id=campaign_id, publisher_id=10, country="US")
        assert await story.client.both_counts() == (0, 0), "a test writes nothing"
        await send(story, url, txn_id="order-1", sale_amount="50")
        await log.until("document.querySelector('[data-rows]').innerText.includes('order-1')", within_s=10)
        await log.picture(story.pictures / "log-first.png")

        await edit_payout(story, campaign_id)
        await send(story, url, txn_id="order-2", sale_amount="50")
        await log.until("document.querySelector('[data-rows]').innerText.includes('order-2')", within_s=10)
        rows = (await log.text("[data-rows]")).replace("\t", " ")
        assert [word for word in ("v1", "v2", "5.00 USD", "2.50 USD", "4.00 USD") if word not in rows] == []
        assert log.complaints == []

        await send(story, url, txn_id="order-2", sale_amount="50")
        await send(story, url, txn_id="order-2", sale_amount="51")
        await log.until("document.querySelectorAll('[data-rows] tr').length === 4")
        await filter_log(story)
        await look_at_click(story)
        await look_at_history(story)
        await look_at_overview(story, campaign_id)


async def log_in(story: Story, key: str) -> None:
    page = story.page
    await story.go("/campaigns")
    await page.until("location.pathname === '/console/login'")
    await story.looks("login")
    await page.fill("#key", "wrong")
    await page.press("Enter")
    await page.until("document.body.innerText.includes('Nobody has this key')")
    await page.fill("#key", key)
    await page.press("Enter")
    await page.until("location.pathname === '/console/campaigns'")
    page.complaints.clear()  # the 401 of the wrong key
    assert await page.ask("document.cookie") == "", "no script reads the session"


async def make_campaign(story: Story) -> int:
    page = story.page
    await page.click("a[href='/console/campaigns/new']")
    await page.fill("#name", NAME)
    await page.fill("#timezone", "Mars/Olympus")
    await page.click(".actions.end button")
    await page.until("document.querySelector('[aria-invalid=true]')?.id === 'timezone'")
    await story.picture("campaign-refused")
    await page.fill("#timezone", "Europe/Berlin")
    page.complaints.clear()  # the 422
    await page.click(".actions.end button")
    await page.until("/campaigns.\\d+$/.test(location.pathname)")
    assert NAME in await page.text("h1"), "shown as it is, not as markup"
    return int(await page.ask("location.pathname.split('/').pop()"))


async def make_goals(story: Story) -> None:
    page = story.page
    await open_new_goal(page)
    await page.fill("#title", "Install")
    await page.fill("#value", "install")
    await page.click("[name=track_multiple][value=no]")
    await page.fill("[name='rates[0].revenue.fixed']", "2.00")
    await page.fill("[name='rates[0].payout.fixed']", "3.00")
    await page.press("Tab")
    await page.until("document.querySelector('#margin-warning-0').textContent.includes('more than the revenue')")
    await story.picture("goal-warning")
    await page.fill("[name='rates[0].payout.fixed']", "1.40")
    await page.press("Tab")
    await page.until("document.querySelector('#margin-0').textContent === '0.60 USD (30 % of the revenue)'")
    await page.click("#default")
    await save_goal(page, "Install")

    await open_new_goal(page)
    await page.fill("#title", "Registration")
    await page.fill("#value", "INSTALL")
    await page.click("[name=type][value=chosen]")
    await page.click("[name=publishers][value='10']")
    await page.fill("[name='rates[0].revenue.fixed']", "1")
    await page.click("dialog .actions.end button")
    await page.until("document.querySelector('dialog [aria-invalid=true]')?.id === 'value'")
    assert await page.ask("document.activeElement.getAttribute('role')") == "alert", "the focus is on what is wrong"
    await story.picture("goal-refused")
    page.complaints.clear()  # the 422
    await page.fill("#value", "registration")
    await save_goal(page, "Registration")

    await open_new_goal(page)
    await page.fill("#title", "Purchase")
    await page.fill("#value", "purchase")
    await page.click("[name=model][value=percent]")
    await page.fill("[name='rates[0].revenue.percent']", "10")
    await page.fill("[name='rates[0].payout.percent']", "50")
    await page.choose("[name='rates[0].payout.of']", "revenue")
    await page.click("#add-rates")
    await page.until("document.activeElement.name === 'rates[1].countries'")
    await page.fill("[name='rates[1].countries']", "de, at")
    await page.fill("[name='rates[1].revenue.percent']", "8")
    await story.picture("goal-two-rates")
    await save_goal(page, "Purchase")
    assert await page.ask("document.querySelectorAll('.goals tbody tr').length") == 3


async def open_new_goal(page: Page) -> None:
    await page.click("a[href$='/goals/new']")
    await page.until("document.querySelector('dialog[open] #title') === document.activeElement")


async def save_goal(page: Page, title: str) -> None:
    await page.click("dialog .actions.end button")
    await page.until(f"!document.querySelector('dialog[open]') && document.body.innerText.includes('{title}')")


async def copy_event_postback(story: Story) -> str:
    """The URL, as the clipboard has it."""
    page = story.page
    await story.browser.send("Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]})
    await page.click(".goals tr:last-child a[href$='/postback']")
    await page.until("!!document.querySelector('#url')")
    await page.choose("#sender", "keitaro")
    await page.until(
        "location.search.includes('keitaro') && document.querySelector('#url').value.includes('external_id')"
    )
    await page.choose("#sender", "generic")
    await page.until(
        "location.search.includes('generic') && document.querySelector('#url').value.includes('{click_id}')"
    )
    await page.click("[data-copy=url]")
    await page.until("document.querySelector('[data-copy=url]').textContent === 'Copied'")
    url = str(await page.ask("navigator.clipboard.readText()"))
    assert url == await page.ask("document.querySelector('#url').value")
    return url


async def send_test(story: Story) -> None:
    page = story.page
    await story.client.register("probe-1", campaign_id=int(await campaign_of(page)), publisher_id=10, country="DE")
    await page.fill("[name='given.click_id']", "probe-1")
    await page.click("form[data-replace] button")
    await page.until("document.querySelector('#test-result').innerText.includes('accepted')")
    text = await page.text("#test-result")
    assert "revenue" in text
    await story.looks("event-postback")


async def campaign_of(page: Page) -> str:
    return str(await page.ask("document.querySelector('.crumbs a:last-of-type').pathname.split('/').pop()"))


async def open_log(story: Story) -> Page:
    """In a tab of its own."""
    log = await story.browser.page()
    await log.go(f"{story.root}/log")
    await log.until("document.querySelector('[data-status]').textContent === 'Live'")
    return log


async def send(story: Story, url: str, **values: str) -> None:
    """As the advertiser's server would: its values in place of the macros."""
    values |= {"click_id": "story-1", "currency": "USD"}
    for name, value in values.items():
        url = url.replace(f"{{{name}}}", value)
    assert "{" not in url, url
    assert dict(parse_qsl(urlsplit(url).query))["goal"] == "purchase"
    async with story.client.http.get(url) as response:
        assert response.status == 200, await response.text()


async def edit_payout(story: Story, campaign_id: int) -> None:
    page = story.page
    await story.go(f"/campaigns/{campaign_id}")
    await page.click(".goals tr:last-child a[href$='/edit']")
    await page.until("!!document.querySelector('dialog[open]')")
    await page.fill("[name='rates[0].payout.percent']", "80")
    await story.looks("slide-out", whole=False)
    await page.press("Escape")
    await page.until("!document.querySelector('dialog[open]')")
    assert (await page.ask("document.activeElement.href")).endswith("/edit"), "the focus is where it was"
    await page.press("Enter")
    await page.until("document.querySelector('dialog[open] #title') === document.activeElement")
    await page.fill("[name='rates[0].payout.percent']", "80")
    await page.click("dialog .actions.end button")
    await page.until("document.querySelector('.goals tr:last-child td.number')?.innerText === '2'")
    payout = "SELECT payout_percent FROM goal_rates JOIN goals ON id = goal_id WHERE campaign_id = $1 ORDER BY position"
    found = await story.client.database.fetch(payout, campaign_id)
    assert sorted(int(row[0]) for row in found) == [0, 0, 0, 80]
    await asyncio.sleep(1)  # a change reaches every receiver in less than a second


async def filter_log(story: Story) -> None:
    page = story.page
    await story.go("/log?outcome=conflict")
    await page.until("document.querySelectorAll('[data-rows] tr').length === 1")
    assert "conflict" in await page.text("[data-rows]")
    await story.go("/log")
    await page.until("document.querySelectorAll('[data-rows] tr').length === 4")
    await story.looks("log")


async def look_at_click(story: Story) -> None:
    page = story.page
    await page.click("[data-rows] a[href*='/click?id=']")
    await page.until("location.pathname === '/console/click'")
    text = await page.text("main")
    assert "Version 1 of the goal" in text
    assert "Version 2 of the goal" in text
    assert "not counted again, and worth a look" in text
    assert "Europe/Berlin" in text
    await story.looks("click")


async def look_at_history(story: Story) -> None:
    page = story.page
    await page.click(".facts a[href*='/campaigns/']")
    await page.click(".goals tr:last-child a[href$='/history']")
    await page.until("location.pathname.endsWith('/history')")
    text = await page.text("main")
    assert "admin key" in text
    assert "rates[0].payout.percent" in text
    await story.looks("history")


async def look_at_overview(story: Story, campaign_id: int) -> None:
    async def counted() -> int:
        await fold(story.client.database)  # as the writer does, sooner
        return int(await story.client.database.fetchval("SELECT coalesce(sum(postbacks), 0) FROM log_hourly"))

    await eventually(counted, lambda count: count == 2, within_s=15)
    page = story.page
    await story.go("")
    await page.until("document.querySelectorAll('.column rect').length > 24")
    text = await page.text(".tiles")
    assert "revenue, USD\n10.00\npayout, USD\n6.50\nmargin, USD\n3.50" in text
    await page.choose("#campaign", str(campaign_id))
    await page.until("location.search.includes('campaign=') && document.readyState === 'complete'")
    await story.looks("overview")
    await page.click("[data-theme-toggle]")
    assert await page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 26)"
    await story.go("/campaigns")
    assert await page.ask("document.documentElement.dataset.theme") == "dark", "it is remembered"
    await story.picture("campaigns-dark")
