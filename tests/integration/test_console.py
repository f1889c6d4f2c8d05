"""The console of a running program, without a browser: who gets in, who may do what, what comes out escaped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from ingest.api_keys import Role, new_key
from ingest.console.handlers import MAX_FORM_BYTES
from ingest.console.live import MAX_LISTENERS
from ingest.console.throttle import FAILURES
from storage.api_keys import create_api_key
from storage.postgres import close, connect
from tests import servers
from tests.console import Visitor
from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample
from tests.program import Program, running

ATTACK: Final = """<script>alert("x")</script><img src=x onerror='alert(1)'>{{ 7 * 7 }}"""
PAGES: Final = (
    "",
    "/campaigns",
    "/campaigns/100",
    "/campaigns/100/history",
    "/goals/1000/history",
    "/goals/1000/postback",
    "/log",
    "/click",
)
FORMS: Final = ("/campaigns/new", "/campaigns/100/edit", "/campaigns/100/goals/new", "/goals/1000/edit")
GOAL: Final = {
    "type": "public",
    "track_multiple": "no",
    "status": "active",
    "approval": "auto",
    "model": "fixed",
    "rates[0].countries": "us ca",
    "rates[0].revenue.fixed": "2",
    "rates[0].payout.fixed": "1.50",
}


@dataclass(frozen=True, slots=True)
class World:
    """One program and its database, for all tests of this file."""

    program: Program
    dsn: str
    keys: dict[Role, str]


@pytest.fixture(scope="module")
def world(
    postgres_server: servers.PostgresServer,
    valkey_server: servers.RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    with postgres_server.database(servers.TEMPLATE) as dsn:
        asyncio.run(load_sample(dsn))
        keys = {role: asyncio.run(made_key(dsn, f"a {role.value} key", role)) for role in Role}
        valkey_server.flush()
        settings = {"SERVER__TRUSTED_PROXIES": "127.0.0.1"}
        with running(tmp_path_factory.mktemp("console"), valkey_server.url, dsn, **settings) as program:
            yield World(program, dsn, keys)


async def made_key(dsn: str, name: str, role: Role) -> str:
    connection = await connect(dsn)
    key, digest = new_key()
    await create_api_key(connection, name, role.value, digest)
    await close(connection)
    return key


@asynccontextmanager
async def sending(world: World) -> AsyncIterator[Client]:
    async with client_of(world.program, world.dsn) as client:
        yield client


# Who gets in ---------------------------------------------------------------------------------------------------------


async def test_nobody_sees_anything_without_a_key(world: World) -> None:
    async with Visitor.of(world.program) as visitor:
        for path in (*PAGES, *FORMS, "/log/events"):
            answer = await visitor.get(path)
            assert (answer.status, answer.text) == (303, "")
            assert answer.place == f"/console/login?next={quote('/console' + path)}"
        await visitor.get("/login")
        refused = await visitor.post("/goals/1000/edit", GOAL)
        assert refused.status == 401
        assert (await visitor.get("/nowhere")).status == 404
        for key in ("", "wrong", "pbk_wrong", "x" * 10_000):
            answer = await visitor.log_in(key)
            assert answer.status == 401
            assert "Nobody has this key" in answer.text
            assert (await visitor.get("")).status == 303


@pytest.mark.parametrize(
    ("then", "place"),
    [
        ("/console/campaigns/100?x=1", "/console/campaigns/100?x=1"),
        ("//evil.example", "/console"),
        ("https://evil.example/console", "/console"),
        ("/console\\@evil.example", "/console"),
        ("/consoles", "/console"),
        ("/console/\r\nSet-Cookie: a=b", "/console"),
    ],
)
async def test_after_the_login_one_stays_in_the_console(world: World, then: str, place: str) -> None:
    async with Visitor.of(world.program) as visitor:
        page = await visitor.get(f"/login?{urlencode({'next': then})}")
        answer = await visitor.post("/login", {"key": world.program.admin_key, "next": page.hidden("next")})
        assert (answer.status, answer.place) == (303, place)


async def test_the_session_is_out_of_reach(world: World) -> None:
    async with Visitor.of(world.program) as visitor:
        answer = await visitor.log_in(world.program.admin_key)
        cookie = answer.headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/console"} <= set(cookie.split("; "))
        assert "Secure" not in cookie, "it came by http"
        assert world.program.admin_key not in cookie
        assert world.program.admin_key not in (await visitor.get("/campaigns")).text

        await visitor.get("/login")
        sealed = next(iter(visitor.http.cookie_jar)).value
        for wrong in (sealed[:-4] + "AAAA", sealed[4:], "A" * 5000, "%00"):
            cookies = {"Cookie": f"postback_console={wrong}"}
            async with (
                aiohttp.ClientSession(headers=cookies) as http,
                http.get(f"{visitor.root}/campaigns", allow_redirects=False) as response,
            ):
                assert response.status == 303

        out = await visitor.post("/logout")
        assert (out.status, out.place) == (303, "/console/login")
        assert (await visitor.get("/campaigns")).status == 303

    async with Visitor.of(world.program) as visitor:
        by_https = await visitor.get("/login", X_Forwarded_Proto="https")
        assert "Secure" in by_https.headers["Set-Cookie"].split("; ")


async def test_wrong_keys_have_to_wait(world: World) -> None:
    async with Visitor.of(world.program) as visitor:
        await visitor.get("/login")
        answers = []
        for number in range(FAILURES + 1):
            wrong = {"key": f"wrong {number}", "next": ""}
            answers.append(await visitor.post("/login", wrong, X_Forwarded_For="198.51.100.7"))
            visitor.token = answers[-1].token
        assert [answer.status for answer in answers] == [401] * FAILURES + [429]
        assert answers[-1].headers["Retry-After"].isdigit()
        right = {"key": world.program.admin_key, "next": ""}
        answer = await visitor.post("/login", right, X_Forwarded_For="198.51.100.7")
        assert answer.status == 429, "the right key waits too"
        visitor.token = answer.token
        assert (await visitor.post("/login", right, X_Forwarded_For="198.51.100.8")).status == 303


# What each answer carries --------------------------------------------------------------------------------------------


async def test_every_answer_has_the_headers(world: World) -> None:
    async with Visitor.of(world.program, world.program.admin_key) as visitor:
        statics = re.findall(r'"/console(/static/[^"]+)"', (await visitor.get("/log")).text)
        assert len(statics) == 5
        for path in (*PAGES, *FORMS, *statics, "/login", "/nowhere", "/static/none.js"):
            answer = await visitor.get(path)
            policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
            assert policy["default-src"] == policy["script-src"] == policy["style-src"] == "'self'"
            assert policy["frame-ancestors"] == policy["base-uri"] == policy["object-src"] == "'none'"
            assert answer.headers["X-Frame-Options"] == "DENY"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            is_static = path in statics
            assert ("immutable" in answer.headers["Cache-Control"]) is is_static
            if not is_static:
                assert answer.headers["Cache-Control"] == "no-store"
                assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:|<script(?! src=)", answer.text), path
                assert "http" not in " ".join(re.findall(r'(?:src|href)="([^"]*)"', answer.text)), (
                    "nothing from elsewhere"
                )


async def test_a_page_is_fit_for_a_screen_reader(world: World) -> None:
    async with Visitor.of(world.program, world.program.admin_key) as visitor:
        for path in (*PAGES, *FORMS, "/click?id=none"):
            text = (await visitor.get(path)).text
            assert '<html lang="en">' in text
            assert len(re.findall(r"<h1[ >]", text)) == 1, path
            assert text.index('href="#main"') < text.index("<nav"), "a skip link first"
            ids = re.findall(r'\bid="([^"]+)"', text)
            assert len(ids) == len(set(ids)), path
            for element, attributes in re.findall(r"<(input|select|textarea)\b([^>]*)>", text):
                if 'type="hidden"' in attributes:
                    continue
                own = re.search(r'\bid="([^"]+)"', attributes)
                is_wrapped = 'type="radio"' in attributes or 'type="checkbox"' in attributes
                assert is_wrapped or "aria-labelledby" in attributes or (own and f'for="{own[1]}"' in text), (
                    f"{path}: {element} {attributes} has no label"
                )


# Forms ---------------------------------------------------------------------------------------------------------------


async def test_a_form_of_another_session_does_nothing(world: World) -> None:
    async with Visitor.of(world.program, world.program.admin_key) as visitor:
        form = {**GOAL, "title": "Forged", "value": "forged"}
        path = "/campaigns/100/goals/new"
        async with Visitor.of(world.program, world.program.admin_key) as other:
            for token in ("", "x", other.token, visitor.token[:-1]):
                answer = await visitor.post(path, form, token=token)
                assert answer.status == 403
                assert "another session" in answer.text
        assert (await visitor.post(path, form, Sec_Fetch_Site="cross-site")).status == 403
        assert (await visitor.post(path, form, Sec_Fetch_Site="same-site")).status == 403
        assert (await visitor.post("/logout", token="x")).status == 403
        as_json = await visitor.http.post(f"{visitor.root}{path}", json=form)
        assert as_json.status == 415
        assert (await visitor.post(path, {**form, "title": "x" * MAX_FORM_BYTES})).status == 413
        assert "Forged" not in (await visitor.get("/campaigns/100")).text


async def test_who_may_only_look_changes_nothing(world: World) -> None:
    async with Visitor.of(world.program, world.keys[Role.READ]) as visitor:
        for path in PAGES:
            page = await visitor.get(path)
            assert page.status == 200
            assert [action for action in re.findall(r'action="([^"]*)"', page.text) if "method" not in action]
            posts = re.findall(r'<form method="post" action="([^"]*)"', page.text)
            assert posts == ["/console/logout"], path
            assert not re.search(r'href="[^"]*/(new|edit)"', page.text), path
        for path in FORMS:
            assert (await visitor.get(path)).status == 403
        for path in (*FORMS, "/goals/1000/postback"):
            answer = await visitor.post(path, {**GOAL, "title": "x", "value": "x", "version": "1"})
            assert (answer.status, "may only look" in answer.text) == (403, True)
        assert (await visitor.post("/logout")).status == 303


async def test_a_goal_is_made_and_changed_with_every_field(world: World) -> None:
    async with Visitor.of(world.program, world.keys[Role.ADMIN]) as visitor, sending(world) as client:
        form = {
            **GOAL,
            "title": "Trial",
            "value": "trial",
            "type": "chosen",
            "publishers": "10",
            "approval": "manual",
            "hold": "14d",
            "model": "mixed",
            "rates[0].revenue.percent": "12.5",
            "rates[0].payout.percent": "70",
            "rates[0].payout.of": "revenue",
            "rates[1].publisher": "11 South Traffic",
            "rates[1].revenue.fixed": "1",
            "caps[0].measure": "conversions",
            "caps[0].period": "day",
            "caps[0].limit": "100",
            "caps[0].action": "unpaid",
            "caps[0].each_publisher": "on",
        }
        made = await visitor.post("/campaigns/100/goals/new", form)
        assert made.status == 303, made.text
        goal_id = int(made.place.rpartition("-")[2])
        row = await client.database.fetchrow("SELECT * FROM goals WHERE id = $1", goal_id)
        assert (row["type"], row["publishers"], row["approval"], row["hold_ms"]) == (
            "private",
            [10],
            "manual",
            14 * 86_400_000,
        )
        rates = await client.database.fetch("SELECT * FROM goal_rates WHERE goal_id = $1 ORDER BY position", goal_id)
        assert [(rate["countries"], rate["publisher_id"]) for rate in rates] == [(["US", "CA"], None), ([], 11)]
        assert str(rates[0]["revenue_percent"]) == "12.500000"
        cap = await client.database.fetchrow("SELECT * FROM caps WHERE goal_id = $1", goal_id)
        assert (cap["cap_limit"], cap["action"], cap["each_publisher"]) == (100, "unpaid", True)
        by = await client.database.fetchval("SELECT changed_by FROM catalog_history WHERE entity_id = $1", str(goal_id))
        assert by == "a admin key"

        page = await visitor.get(f"/goals/{goal_id}/edit")
        assert page.hidden("version") == "1"
        unchanged = await visitor.post(f"/goals/{goal_id}/edit", {**form, "version": "1"})
        assert unchanged.status == 303
        assert (await visitor.get(f"/goals/{goal_id}/edit")).hidden("version") == "1", "nothing changed"


async def test_what_is_wrong_stands_beside_its_field(world: World) -> None:
    async with Visitor.of(world.program, world.program.admin_key) as visitor:
        form = {
            **GOAL,
            "title": "",
            "value": "{goal}",
            "type": "chosen",
            "hold": "",
            "rates[0].countries": "us, xx",
            "rates[0].payout.fixed": "1,5",
        }
        first = await visitor.post("/campaigns/100/goals/new", form)
        assert first.status == 422
        assert "choose at least one" in first.text
        answer = await visitor.post("/campaigns/100/goals/new", {**form, "type": "public"})
        assert answer.status == 422
        for name in ("title", "value", "rates[0].countries", "rates[0].payout.fixed"):
            assert re.search(rf'id="{re.escape(name)}" name="[^"]*" aria-invalid="true"', answer.text), name
            assert f'id="{name}-problem-1"' in answer.text
            assert f'href="#{name}"' in answer.text
        assert 'value="1,5"' in answer.text, "what was entered is still there"
        more = await visitor.post("/campaigns/100/goals/new", {**form, "do": "add-rates"})
        assert (more.status, 'name="rates[1].countries"' in more.text) == (200, True)
        less = await visitor.post("/campaigns/100/goals/new", {**form, "do": "remove-rates-0"})
        assert 'name="rates[0].countries"' not in less.text
        checked = await visitor.post("/campaigns/100/goals/new", {**GOAL, "rates[0].payout.fixed": "3", "do": "check"})
        assert "The payout is more than the revenue." in checked.text
        assert "-1.00 USD (-50 % of the revenue)" in checked.text


async def test_a_change_that_came_between_is_shown(world: World) -> None:
    async with (
        Visitor.of(world.program, world.program.admin_key) as one,
        Visitor.of(world.program, world.keys[Role.ADMIN]) as other,
    ):
        form = {**GOAL, "title": "Contested", "value": "contested"}
        goal = (await one.post("/campaigns/100/goals/new", form)).place.rpartition("-")[2]
        path = f"/goals/{goal}/edit"
        theirs = await other.post(path, {**form, "rates[0].payout.fixed": "1.25", "version": "1"})
        assert theirs.status == 303
        mine = await one.post(path, {**form, "rates[0].payout.fixed": "1.75", "version": "1"})
        assert mine.status == 409
        assert "a admin key" in mine.text
        assert "rates[0].payout.fixed" in mine.text
        assert 'value="1.75"' in mine.text, "mine is still in the form"
        assert mine.hidden("version") == "2"
        again = await one.post(path, {**form, "rates[0].payout.fixed": "1.75", "version": "2"})
        assert again.status == 303
        history = (await other.get(f"/goals/{goal}/history")).text
        changes = re.findall(
            r"<code>(.*?)</code></th><td class=\"from\">(.*?)</td><td class=\"to\">(.*?)</td>", history
        )
        assert changes == [("rates[0].payout.fixed", "1.25", "1.75"), ("rates[0].payout.fixed", "1.5", "1.25")]


# What others wrote ---------------------------------------------------------------------------------------------------


async def test_markup_comes_out_as_text(world: World) -> None:
    click_id = f"{ATTACK}{chr(0x202E)}1"
    async with Visitor.of(world.program, world.program.admin_key) as visitor, sending(world) as client:
        campaign = {"name": ATTACK, "advertiser": "1", "currency": "USD", "timezone": "UTC", "status": "active"}
        made = await visitor.post("/campaigns/new", campaign)
        assert made.status == 303, made.text
        campaign_id = int(made.place.rpartition("/")[2])
        goal = {**GOAL, "title": ATTACK, "value": ATTACK, "rates[0].countries": ""}
        goal_id = (await visitor.post(f"/campaigns/{campaign_id}/goals/new", goal)).place.rpartition("-")[2]
        await client.register("evil" + ATTACK, campaign_id=campaign_id)
        sent = {"click_id": "evil" + ATTACK, "goal": ATTACK, ATTACK: ATTACK, "sub": ATTACK, "txn_id": ATTACK}

        async def counted() -> str:
            return str((await client.get(urlencode(sent)))[1]["status"])

        await eventually(counted, lambda status: status in {"accepted", "duplicate"})
        await client.get(urlencode({**sent, "click_id": click_id}))
        await eventually(client.both_counts, lambda counts: counts[0] >= 1 and counts[1] >= 1)
        clicks = [f"/click?{urlencode({'id': one})}" for one in ("evil" + ATTACK, click_id)]
        for path in (
            "",
            f"?campaign={campaign_id}",
            "/campaigns",
            f"/campaigns?{urlencode({'search': '<script>'})}",
            f"/campaigns/{campaign_id}",
            f"/campaigns/{campaign_id}/edit",
            f"/campaigns/{campaign_id}/history",
            f"/goals/{goal_id}/edit",
            f"/goals/{goal_id}/postback",
            f"/log?{urlencode({'click': 'evil' + ATTACK})}",
            *clicks,
        ):
            answer = await visitor.get(path)
            assert answer.status == 200, path
            assert "<script>" not in answer.text
            assert "<img" not in answer.text
            assert "49" not in re.findall(r"\}(\d+)", answer.text)
            assert escape(ATTACK)[:8] in answer.text, path
        for path in (f"/{ATTACK}", f"/campaigns/{quote(ATTACK, safe='')}", f"/log?{urlencode({'outcome': ATTACK})}"):
            answer = await visitor.get(path)
            assert (answer.status, "<script>" in answer.text) == (404, False)
        shown = await events(visitor, f"?{urlencode({'click': 'evil' + ATTACK, 'after': '1'})}", 1)
        assert "<script>" not in shown[0]["data"]
        assert "&lt;script&gt;" in shown[0]["data"]


# Pages ---------------------------------------------------------------------------------------------------------------


async def test_a_test_postback_writes_nothing(world: World) -> None:
    async with Visitor.of(world.program, world.program.admin_key) as visitor, sending(world) as client:
        await client.register("tried-1")
        before = await client.both_counts()
        page = await visitor.get("/goals/1000/postback?sender=adjust")
        assert "{label}" in page.text
        answer = await visitor.post("/goals/1000/postback", {"given.click_id": "tried-1"})
        assert answer.status == 200
        assert "It would be" in answer.text
        assert ">accepted<" in answer.text
        unknown = await visitor.post("/goals/1000/postback", {"given.click_id": "nobody's"})
        assert "unknown_click" in unknown.text
        assert (await client.get("click_id=tried-1&goal=install"))[1]["status"] == "accepted", "nothing was claimed"
        taken = await visitor.post("/goals/1000/postback", {"given.click_id": "tried-1"})
        assert ">duplicate<" in taken.text
        await eventually(client.both_counts, lambda counts: counts == (before[0] + 1, before[1]))
        assert (await visitor.get("/goals/1000/postback?sender=nobody")).status == 404


async def test_a_test_postback_says_what_a_cap_leaves(world: World) -> None:
    async with Visitor.of(world.program, world.program.admin_key) as visitor, sending(world) as client:
        await client.register("capped-1")
        await visitor.get("/goals/1000/postback")

        async def tried() -> str:
            return (await visitor.post("/goals/1000/postback", {"given.click_id": "capped-1"})).text

        await client.database.execute(
            "INSERT INTO caps (campaign_id, position, measure, period, cap_limit, action)"
            " VALUES (100, 0, 'conversions', 'lifetime', 1000, 'pending')"
        )
        await eventually(tried, lambda text: "1000 conversions for ever" in text)
        await client.database.execute("DELETE FROM caps")
        await eventually(tried, lambda text: "1000 conversions for ever" not in text)


async def events(visitor: Visitor, query: str, count: int, **headers: str) -> list[dict[str, str]]:
    """The first events of the stream."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    found: list[dict[str, str]] = []
    async with visitor.http.get(f"{visitor.root}/log/events{query}", headers=named) as response:
        assert response.status == 200
        assert response.content_type == "text/event-stream"
        async with asyncio.timeout(15):
            while len(found) < count:
                lines = (await response.content.readuntil(b"\n\n")).decode().splitlines()
                parts = [line.partition(": ") for line in lines]
                if any(name == "id" for name, _, _ in parts):
                    event = {name: value for name, _, value in parts if name != "data"}
                    found.append({**event, "data": "\n".join(value for name, _, value in parts if name == "data")})
    return found


def row_ids(found: Sequence[dict[str, str]]) -> list[str]:
    return [re.findall(r'id="(p-[^"]+)"', event["data"])[0] for event in found]


async def test_the_live_log_goes_on_where_it_was_left(world: World) -> None:
    async with Visitor.of(world.program, world.keys[Role.READ]) as visitor, sending(world) as client:
        await client.register("live-1", "live-2")
        listening = asyncio.create_task(events(visitor, "?click=live-1", 2))
        other = asyncio.create_task(events(visitor, "?outcome=duplicate&advertiser=1", 1))
        await asyncio.sleep(0)
        for goal in ("install", "registration"):
            await client.get(f"click_id=live-1&goal={goal}")
            await client.get(f"click_id=live-2&goal={goal}")
        await client.get("click_id=live-2&goal=install")
        first = await listening
        assert ["live-2" in event["data"] for event in first] == [False, False]
        assert "live-2" in (await other)[0]["data"]
        again = await events(visitor, "?click=live-1", 2, Last_Event_ID=first[0]["id"])
        assert row_ids(again) == row_ids(first), "what came since, and a little before: the page knows them by id"


async def test_listeners_are_bounded(world: World) -> None:
    async with Visitor.of(world.program, world.keys[Role.READ]) as visitor:
        open_ones: list[aiohttp.ClientResponse] = []
        while len(open_ones) <= MAX_LISTENERS:
            open_ones.append(await visitor.http.get(f"{visitor.root}/log/events"))
            if open_ones[-1].status == 503:
                break
        assert [response.status for response in open_ones[:-1]] == [200] * (len(open_ones) - 1)
        assert open_ones[-1].status == 503
        for response in open_ones:
            response.close()

        async def asked() -> int:
            async with visitor.http.get(f"{visitor.root}/log/events") as response:
                return response.status

        assert await eventually(asked, lambda status: status == 200, within_s=5) == 200, "who is gone makes room"


async def test_a_click_that_is_not_known(world: World) -> None:
    async with Visitor.of(world.program, world.keys[Role.READ]) as visitor:
        answer = await visitor.get("/click?id=never-seen")
        assert answer.status == 404
        assert "No click with this id is registered" in answer.text
        assert (await visitor.get("/campaigns/999999")).status == 404
        assert (await visitor.get("/campaigns/0")).status == 404
        assert (await visitor.get(f"/campaigns/{10**30}")).status == 404


async def test_a_drain_ends_the_streams_at_once(world: World) -> None:
    (receiver,) = world.program.workers("receiver")
    async with Visitor.of(world.program, world.program.admin_key) as visitor:
        response = await visitor.http.get(f"{visitor.root}/log/events")
        assert await response.content.readline() == b"retry: 1000\n"
        began = asyncio.get_running_loop().time()
        os.kill(receiver, signal.SIGTERM)
        with suppress(aiohttp.ClientPayloadError):
            await response.content.read()
        assert asyncio.get_running_loop().time() - began < 3, "a stream does not hold the drain up"

        async def is_back() -> int:
            with suppress(aiohttp.ClientError):
                return (await visitor.get("/campaigns")).status
            return 0

        assert await eventually(is_back, bool) == 200, "another process knows the session"
        assert response.status == 200
