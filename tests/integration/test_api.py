"""The API of a running program: what it answers, who may do what, and how soon receivers follow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.request import Request, urlopen

import aiohttp
import pytest
import schemathesis
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ingest.admin import AdminKey
from ingest.api.handlers import CatalogApi
from ingest.api_keys import KeyRing, Role, new_key, stored_keys
from ingest.catalog import token_digest
from ingest.catalog_file import parse_catalog
from ingest.catalog_import import export_catalog, import_catalog
from ingest.catalog_service import CatalogService
from ingest.commands.keys import create_key, list_keys, revoke_key
from ingest.commands.session import CommandError
from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.vault import ensure_vault
from storage.api_keys import create_api_key
from storage.postgres import close, connect, open_pool
from tests import servers
from tests.eventually import eventually
from tests.platform import client_of, load_sample
from tests.program import Program, running

EXAMPLES: Final = 6
"""Requests of each operation, made from the document."""
CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]


@dataclass(frozen=True, slots=True)
class World:
    """One program and its database, for all tests of this file."""

    program: Program
    dsn: str


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Any
    body: Any


@dataclass(frozen=True, slots=True)
class Api:
    """Asks with a key."""

    http: aiohttp.ClientSession
    root: str
    key: str | None

    async def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            named["Authorization"] = f"Bearer {self.key}"
        async with self.http.request(method, f"{self.root}{path}", json=body, headers=named) as response:
            is_json = "json" in response.content_type
            return Answer(response.status, response.headers, await (response.json() if is_json else response.text()))


@pytest.fixture(scope="module")
def world(
    postgres_server: servers.PostgresServer,
    valkey_server: servers.RedisServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    with postgres_server.database(servers.TEMPLATE) as dsn:
        asyncio.run(load_sample(dsn))
        valkey_server.flush()
        with running(tmp_path_factory.mktemp("api"), valkey_server.url, dsn) as program:
            yield World(program, dsn)


@asynccontextmanager
async def asking(world: World, key: str | None = "") -> AsyncIterator[Api]:
    """With the admin key unless another is given."""
    async with aiohttp.ClientSession() as http:
        yield Api(http, f"{world.program.url}/api/v1", world.program.admin_key if key == "" else key)


async def made_key(world: World, name: str, role: Role) -> str:
    connection = await connect(world.dsn)
    key, digest = new_key()
    await create_api_key(connection, name, role.value, digest)
    await close(connection)
    return key


async def registering(world: World, api: Api, key: str) -> int:
    """What `POST /clicks` says to this key."""
    headers = {"Authorization": f"Bearer {key}"}
    async with api.http.post(f"{world.program.url}/clicks", json=[], headers=headers) as answer:
        return answer.status


def fields(answer: Answer) -> list[str]:
    return [error["field"] for error in answer.body["errors"]]


# Documents -----------------------------------------------------------------------------------------------------------


async def test_a_campaign_is_made_priced_and_archived(world: World) -> None:
    async with asking(world) as api:
        advertiser = await api("POST", "/advertisers", {"name": "Delta"})
        assert (advertiser.status, advertiser.headers["ETag"]) == (201, '"1"')
        assert advertiser.headers["Location"] == f"/api/v1/advertisers/{advertiser.body['id']}"
        campaign = await api(
            "POST", "/campaigns", {"name": "Delta CPA", "advertiser": advertiser.body["id"], "currency": "USD"}
        )
        goal = await api(
            "POST",
            "/goals",
            {
                "campaign": campaign.body["id"],
                "title": "Deposit",
                "value": "deposit",
                "approval": "manual",
                "hold": "14d",
                "rates": [
                    {"revenue": {"fixed": "10"}, "payout": {"percent": "70", "of": "revenue"}},
                    {"countries": ["US"], "revenue": {"fixed": 5, "percent": "10"}, "payout": {"fixed": "7"}},
                ],
                "caps": [{"measure": "payout", "period": "month", "limit": "500.50", "action": "unpaid"}],
            },
        )
        assert (goal.status, goal.body["version"], goal.body["default"]) == (201, 1, False)
        assert goal.body["margins"] == [
            {"fixed": "3", "percent": "0", "share": "30"},
            {"fixed": "-2", "percent": "10", "share": None},
        ]
        assert goal.body["warnings"] == [
            {"field": "rates[1].payout", "detail": "is more than the revenue for sales below 20"}
        ]
        assert goal.body["caps"][0]["limit"] == "500.5"
        path = f"/goals/{goal.body['id']}"
        assert (await api("GET", path)).body == goal.body
        cheaper = await api("PATCH", path, {"rates": goal.body["rates"][:1], "hold": None}, If_Match='"1"')
        assert (cheaper.status, cheaper.headers["ETag"], cheaper.body["hold"]) == (200, '"2"', None)
        assert cheaper.body["warnings"] == []
        again = await api("PATCH", path, {**cheaper.body}, If_Match='"2"')
        assert again.body == cheaper.body, "what changes nothing makes no version"
        archived = await api("PATCH", path, {"status": "archived", "version": 2})
        assert (archived.status, archived.body["version"], archived.body["status"]) == (200, 3, "archived")
        early = await api("PATCH", f"/advertisers/{advertiser.body['id']}", {"status": "archived"}, If_Match='"1"')
        assert early.status == 422
        assert early.body["errors"] == [
            {"field": "status", "detail": f"campaign {campaign.body['id']} is active; archive it first"}
        ]


async def test_what_is_wrong_is_named_by_its_field(world: World) -> None:
    async with asking(world) as api:
        wrong = await api(
            "POST",
            "/goals",
            {
                "campaign": 100,
                "value": "INSTALL",
                "titel": "x",
                "publishers": [10],
                "hold": "1d",
                "rates": [{"publisher": 99, "revenue": {"fixed": 2.5}}, {"countries": ["XX"]}],
                "caps": [{"measure": "conversions", "period": "day", "limit": "5", "action": "pending"}],
            },
        )
        assert (wrong.status, wrong.headers["Content-Type"]) == (422, "application/problem+json")
        assert fields(wrong) == [
            "title",
            "rates[0].revenue.fixed",
            "rates[1].countries",
            "caps[0].limit",
            "hold",
            "publishers",
            "titel",
        ]
        clash = await api("POST", "/goals", {"campaign": 100, "title": "I", "value": "INSTALL", "default": True})
        assert fields(clash) == ["value", "default"]
        lost = await api("POST", "/goals", {"campaign": 999, "title": "I", "value": "i", "rates": [{"publisher": 99}]})
        assert fields(lost) == ["rates[0].publisher", "campaign"]
        moved = await api("PATCH", "/goals/1000", {"campaign": 200, "id": 7}, If_Match='"1"')
        assert fields(moved) == ["campaign", "id"]
        fixed = await api("PATCH", "/exchange-rates/EUR-USD-2020-01-01", {"valid_from": "2020-01-02"}, If_Match='"1"')
        assert fields(fixed) == ["id"]
        assert fields(await api("GET", "/goals?status=odd&limit=0")) == ["limit"]
        assert fields(await api("GET", "/goals?status=odd&colour=red&campaign=x")) == ["status", "campaign", "colour"]
        assert fields(await api("GET", "/goals?cursor=bm9uZQ")) == ["cursor"]
        assert fields(await api("GET", "/goals/1000?x=1")) == ["x"]
        for odd in ("%ff=1", "search=%ff%00", "search=%ed%a0%80", "a=1&a=2"):
            assert (await api("GET", f"/goals?{odd}")).status in {200, 422}, odd
        assert (await api("GET", "/exchange-rates/%ff%00")).status == 404


async def test_a_name_cannot_be_a_click_here_and_a_token_there(world: World) -> None:
    async with asking(world) as api:
        bank = await api("PATCH", "/advertisers/3", {"aliases": {"shop_key": "click_id"}}, If_Match='"1"')
        assert bank.status == 422
        assert bank.body["errors"][0]["field"] == "aliases"
        assert "security_token for advertiser 2" in bank.body["errors"][0]["detail"]
        shop = await api("PATCH", "/advertisers/2", {"aliases": {"lead_ref": "security_token"}}, If_Match='"1"')
        assert "click_id for advertiser 3" in shop.body["errors"][0]["detail"]
        own = await api("PATCH", "/advertisers/2", {"aliases": {"cid": "security_token"}}, If_Match='"1"')
        assert "cid: is a name of click_id" in own.body["errors"][0]["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status"),
    [
        ("GET", "/goals/1", None, {}, 404),
        ("GET", "/goals/x", None, {}, 404),
        ("GET", "/goals/99999999999999999999", None, {}, 404),
        ("GET", "/exchange-rates/EUR-USD-2020-13-01", None, {}, 404),
        ("GET", "/nothing", None, {}, 404),
        ("DELETE", "/goals/1000", None, {}, 405),
        ("PUT", "/goals/1000", {}, {}, 405),
        ("POST", "/publishers", {"id": 10, "name": "X"}, {}, 409),
        ("POST", "/publishers", {"name": "X"}, {"Content_Type": "text/plain"}, 415),
        ("POST", "/publishers", ["X"], {}, 422),
        ("POST", "/publishers", {"name": "x" * 600_000}, {}, 413),
        ("PATCH", "/publishers/10", {"name": "X"}, {}, 428),
        ("PATCH", "/publishers/10", {"name": "X"}, {"If_Match": '"7"'}, 412),
        ("PATCH", "/publishers/10", {"name": "X", "version": 7}, {}, 409),
        ("PATCH", "/publishers/10", {"name": "X"}, {"If_Match": "*"}, 422),
        ("PATCH", "/publishers/10", {"name": "X", "version": 2}, {"If_Match": '"1"'}, 422),
        ("PATCH", "/publishers/99", {"name": "X"}, {"If_Match": '"1"'}, 404),
    ],
)
async def test_refusals(
    world: World, method: str, path: str, body: object, headers: dict[str, str], status: int
) -> None:
    async with asking(world) as api:
        answer = await api(method, path, body, **headers)
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.body["status"] == status
    if status in {409, 412} and method == "PATCH":
        assert (answer.body["version"], answer.headers["ETag"]) == (1, '"1"')
    if status == 405:
        assert answer.headers["Allow"] == "GET, PATCH"


async def test_lists_are_whole_while_others_add_to_them(world: World) -> None:
    async with asking(world) as api:
        before = {item["id"] for item in (await api("GET", "/publishers?limit=200")).body["items"]}
        for number in range(7):
            made = await api("POST", "/publishers", {"name": f"Page {number}"})
            before.add(made.body["id"])
        seen: list[int] = []
        cursor = ""
        while True:
            page = (await api("GET", f"/publishers?limit=2{cursor}")).body
            seen += [item["id"] for item in page["items"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
            await api("POST", "/publishers", {"id": 5000 - len(seen), "name": "Between"})
            if len(seen) < 6:
                await api("POST", "/publishers", {"id": 1_000_000 + len(seen), "name": "After"})
        assert len(seen) == len(set(seen))
        assert seen == sorted(seen)
        assert before <= set(seen)
        rates = (await api("GET", "/exchange-rates?limit=1")).body
        rest = (await api("GET", f"/exchange-rates?cursor={rates['next_cursor']}")).body
        assert [one["id"] for one in (*rates["items"], *rest["items"])][:2] == [
            "EUR-USD-2020-01-01",
            "USD-EUR-2020-01-01",
        ]
        found = (await api("GET", "/goals?campaign=100&search=PURCH")).body["items"]
        assert [goal["id"] for goal in found] == [1001]
        assert {one["type"] for one in (await api("GET", "/goals?type=private")).body["items"]} == {"private"}


# Who may do what -----------------------------------------------------------------------------------------------------

OPERATIONS: Final = [
    *(
        (method, path.format(id=key))
        for path, key in (
            ("/advertisers/{id}", "1"),
            ("/publishers/{id}", "10"),
            ("/campaigns/{id}", "100"),
            ("/goals/{id}", "1000"),
            ("/exchange-rates/{id}", "EUR-USD-2020-01-01"),
        )
        for method in ("GET", "PATCH")
    ),
    *(
        (method, f"/{plural}")
        for plural in ("advertisers", "publishers", "campaigns", "goals")
        for method in ("GET", "POST")
    ),
    ("GET", "/exchange-rates"),
    ("POST", "/exchange-rates"),
    ("GET", "/history"),
    ("GET", "/campaigns/100/goals/1000/url"),
]


async def test_what_each_role_may_not_do(world: World) -> None:
    key = await made_key(world, "analyst", Role.READ)
    async with asking(world, key) as reader, asking(world, None) as nobody, asking(world, "pbk_wrong") as stranger:
        for method, path in OPERATIONS:
            body: object = None if method == "GET" else {}
            assert (await reader(method, path, body)).status == (200 if method == "GET" else 403), (method, path)
            for other in (nobody, stranger):
                refused = await other(method, path, body)
                assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer"), (method, path)
        for path in ("/openapi.json", "/docs", "/docs.css"):
            assert (await nobody("GET", path)).status == 200
        assert await registering(world, reader, key) == 403, "a reading key registers no clicks"
    tracker = await made_key(world, "tracker", Role.CLICKS)
    async with asking(world, tracker) as api:
        await eventually(lambda: registering(world, api, tracker), lambda status: status == 200, within_s=2)
        for method, path in OPERATIONS:
            assert (await api(method, path, None if method == "GET" else {})).status == 403, (method, path)
    admin = await made_key(world, "ops", Role.ADMIN)
    async with asking(world, admin) as api:
        made = await eventually(
            lambda: api("POST", "/publishers", {"name": "By ops"}), lambda answer: answer.status == 201, within_s=2
        )
        (change,) = (await api("GET", f"/history?kind=publisher&id={made.body['id']}")).body["items"]
        assert (change["changed_by"], change["before"], change["after"]["name"]) == ("ops", None, "By ops")


async def test_keys_are_made_shown_and_revoked_by_commands(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    redis_url = "redis://unused.invalid"
    config = Config(postgres=PostgresConfig(dsn=world.dsn), redis=RedisConfig(url=redis_url))
    await create_key(config, "by command", Role.READ)
    key = capsys.readouterr().out.strip()
    with pytest.raises(CommandError, match="is called 'by command' already"):
        await create_key(config, "by command", Role.ADMIN)
    with pytest.raises(CommandError, match="--name: is empty"):
        await create_key(config, " ", Role.READ)
    async with asking(world, key) as api:

        async def status() -> int:
            return (await api("GET", "/goals/1000")).status

        await eventually(status, lambda found: found == 200, within_s=2)
    await list_keys(config)
    said = capsys.readouterr().out
    assert "by command" in said
    assert key not in said
    number = next(line.split()[0] for line in said.splitlines() if "by command" in line)
    await revoke_key(config, int(number))
    with pytest.raises(CommandError, match="there is no key 999"):
        await revoke_key(config, 999)
    await create_key(config, "by command", Role.READ)


# Changes at once -----------------------------------------------------------------------------------------------------


async def test_of_twenty_changes_of_one_version_one_is_made(world: World) -> None:
    async with asking(world) as api:
        made = (await api("POST", "/publishers", {"name": "Contested"})).body
        path = f"/publishers/{made['id']}"
        answers = await asyncio.gather(
            *(api("PATCH", path, {"name": f"Winner {number}"}, If_Match='"1"') for number in range(20))
        )
        assert sorted(answer.status for answer in answers) == [200] + [412] * 19
        (winner,) = (answer.body for answer in answers if answer.status == 200)
        assert {answer.body["version"] for answer in answers if answer.status == 412} == {2}
        assert (await api("GET", path)).body == winner
        history = (await api("GET", f"/history?kind=publisher&id={made['id']}")).body["items"]
        assert [(one["version"], one["after"]["name"]) for one in history] == [(2, winner["name"]), (1, "Contested")]


async def test_history_has_every_change_of_api_and_file(world: World) -> None:
    vault = await asyncio.to_thread(ensure_vault, world.program.data_dir / "secret.key")
    connection = await connect(world.dsn)
    async with asking(world) as api:
        first = (await api("GET", "/goals/3000")).body
        await api("PATCH", "/goals/3000", {"title": "Applied"}, If_Match=f'"{first["version"]}"')
        text = (await export_catalog(connection)).replace('title = "Applied"', 'title = "Imported"')
        summary = await import_catalog(connection, parse_catalog(text, vault))
        assert (summary.goals.updated, summary.campaigns.updated, summary.advertisers.updated) == (1, 0, 0)
        stale = await api("PATCH", "/goals/3000", {"title": "Lost"}, If_Match=f'"{first["version"] + 1}"')
        assert stale.status == 412, "an import counts the version up too"
        last = await api("PATCH", "/goals/3000", {"title": "Last"}, If_Match=f'"{first["version"] + 2}"')
        history = (await api("GET", "/history?kind=goal&id=3000&limit=3")).body["items"]
        assert [
            (one["changed_by"], one["version"], one["before"]["title"], one["after"]["title"]) for one in history
        ] == [
            ("admin key", first["version"] + 3, "Imported", "Last"),
            ("catalog import", first["version"] + 2, "Applied", "Imported"),
            ("admin key", first["version"] + 1, "Application", "Applied"),
        ]
        assert {key: value for key, value in last.body.items() if key in history[0]["after"]} == history[0]["after"]
    rows = await connection.fetch(
        "SELECT kind, entity_id, array_agg(version ORDER BY history_id) AS versions,"
        " array_agg(before - 'security_tokens' ORDER BY history_id) AS befores,"
        " array_agg(after - 'security_tokens' ORDER BY history_id) AS afters FROM catalog_history GROUP BY 1, 2"
    )
    for row in rows:
        assert list(row["versions"]) == list(range(1, len(row["versions"]) + 1)), row["entity_id"]
        assert [None, *row["afters"][:-1]] == list(row["befores"]), row["entity_id"]
    for table, kind in (("goals", "goal"), ("publishers", "publisher"), ("campaigns", "campaign")):
        told = {row["entity_id"]: row["versions"][-1] for row in rows if row["kind"] == kind}
        stored = {str(row[0]): row[1] for row in await connection.fetch(f"SELECT id, version FROM {table}")}
        assert told == stored, "everything that is there has its history"
    await close(connection)


async def test_a_change_is_in_force_soon_and_never_torn(world: World) -> None:
    """Postbacks stream in while the goal's revenue and payout are changed together: each is decided on one version."""
    async with asking(world) as api, client_of(world.program, world.dsn) as client:
        await client.register("torn-1", publisher_id=11)
        version = (await api("GET", "/goals/1002")).body["version"]
        prices = {version: ("0.0125", "0.008")}
        patched: dict[int, float] = {}
        done = asyncio.Event()

        async def send() -> None:
            while not done.is_set():
                status, said = await client.get("click_id=torn-1&goal=ad_view")
                assert (status, said["status"]) == (200, "accepted")

        senders = [asyncio.create_task(send()) for _ in range(4)]
        for step in range(1, 6):
            revenue, payout = f"{step}", f"{step}.5"
            rates = [{"revenue": {"fixed": revenue}, "payout": {"fixed": payout}}]
            answer = await api("PATCH", "/goals/1002", {"rates": rates}, If_Match=f'"{version}"')
            version = answer.body["version"]
            patched[version] = time.time()
            prices[version] = (revenue, payout)
            await asyncio.sleep(0.4)
        done.set()
        await asyncio.gather(*senders)
        found = await eventually(
            lambda: client.database.fetch(
                "SELECT goal_version, revenue, payout, min(received_at) AS first, count(*) AS n FROM conversions"
                " WHERE click_id = 'torn-1' GROUP BY 1, 2, 3 ORDER BY 1"
            ),
            lambda rows: bool(rows) and rows[-1]["goal_version"] == version,
        )
        assert [row["goal_version"] for row in found] == sorted(prices), "one price for each version"
        for row in found:
            revenue, payout = prices[row["goal_version"]]
            assert (row["revenue"], row["payout"]) == (type(row["revenue"])(revenue), type(row["payout"])(payout))
        delays = [
            (row["first"] - datetime.fromtimestamp(patched[row["goal_version"]], UTC)).total_seconds()
            for row in found
            if row["goal_version"] in patched
        ]
        print("from the PATCH's answer to the first decision on its version, ms:", [round(d * 1000) for d in delays])
        assert max(delays) < 1


# Secrets, documents --------------------------------------------------------------------------------------------------


async def test_secrets_go_in_and_never_come_out(world: World) -> None:
    token, other, secret = "kept-token-4711", "next-token-0815", "signing-secret-2342-2342"
    async with asking(world) as api:
        made = await api("POST", "/advertisers", {"name": "E", "security_tokens": [token], "signing_secrets": [secret]})
        path = f"/advertisers/{made.body['id']}"
        (kept,) = made.body["security_tokens"]
        both = await api("PATCH", path, {"security_tokens": [kept, other]}, If_Match='"1"')
        assert both.status == 200
        unknown = await api("PATCH", path, {"security_tokens": ["stored:AAAAAAAAAAAA"]}, If_Match='"2"')
        assert fields(unknown) == ["security_tokens"]
        new = await api("POST", "/advertisers", {"name": "F", "security_tokens": [kept]})
        assert fields(new) == ["security_tokens"], "a reference is to one's own"
        short = await api("PATCH", path, {"signing_secrets": ["too-short-7"]}, If_Match='"2"')
        renamed = await api("PATCH", path, {"name": "G"}, If_Match='"2"')
        assert renamed.body["signing_secrets"] == made.body["signing_secrets"]
        history = await api("GET", f"/history?kind=advertiser&id={made.body['id']}")
        assert [one["after"]["security_tokens"] for one in history.body["items"]] == ["2", "2, changed", "1"]
        connection = await connect(world.dsn)
        digests, sealed = await connection.fetchrow(
            "SELECT security_tokens, signing_secrets FROM advertisers WHERE id = $1", made.body["id"]
        ) or ([], [])
        assert list(digests) == [token_digest(token), token_digest(other)]
        everything = str([made, both, unknown, new, short, renamed, history, await api("GET", "/advertisers")])
        everything += str(await connection.fetch("SELECT before, after FROM catalog_history"))
        everything += world.program.log_path.read_text(encoding="utf-8")
        await close(connection)
    for hidden in (
        token,
        other,
        secret,
        "too-short-7",
        *sealed,
        *(digest.removeprefix("sha256:") for digest in digests),
    ):
        assert hidden not in everything
        assert hidden[4:16] not in everything or hidden in sealed


async def test_the_event_postback_is_handed_out(world: World) -> None:
    async with asking(world) as api:
        own = await api("GET", "/campaigns/200/goals/2000/url?base=https%3A%2F%2Ft.example.com&sender=appsflyer")
        assert own.status == 200, own.body
        assert own.body["url"].startswith("https://t.example.com/postback?")
        plain = await api("GET", "/campaigns/100/goals/1001/url")
        assert plain.body["url"].startswith(f"{world.program.url}/postback?click_id=")
        assert (await api("GET", "/campaigns/100/goals/2000/url")).status == 404
        assert (await api("GET", "/campaigns/7/goals/1001/url")).status == 404
        assert fields(await api("GET", "/campaigns/100/goals/1001/url?sender=nobody")) == ["sender"]
        assert fields(await api("GET", "/campaigns/100/goals/1001/url?base=ftp%3A%2F%2Fx")) == ["base"]


async def test_the_page_needs_no_script_and_nothing_from_elsewhere(world: World) -> None:
    async with asking(world, None) as api:
        page = await api("GET", "/docs")
        assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; style-src 'self'")
        assert "<script" not in page.body
        assert "style=" not in page.body
        assert "src=" not in page.body
        assert 'href="http' not in page.body
        document = (await api("GET", "/openapi.json")).body
        assert document["openapi"] == "3.1.0"
        assert all(operation in page.body for operation in ("patchGoal", "listHistory", "getEventUrl"))


async def test_without_postgres_it_is_503_and_the_admin_key_is_known(tmp_path: Any) -> None:
    pool = await open_pool(f"postgresql://postgres@/none?host={tmp_path}", 1)
    vault = await asyncio.to_thread(ensure_vault, tmp_path / "secret.key")
    ring = KeyRing(AdminKey("a" * 20), stored_keys(pool), time.monotonic)
    app = web.Application()
    CatalogApi(CatalogService(pool, vault), ring, lambda request: request.read(), "/postback").add_to(app)
    async with TestClient(TestServer(app)) as client:
        for key in ("a" * 20, "pbk_x"):
            async with client.get("/api/v1/goals", headers={"Authorization": f"Bearer {key}"}) as response:
                assert (response.status, response.headers["Retry-After"]) == (503, "2")
                assert response.content_type == "application/problem+json"
    await close(pool)


# What the document says ----------------------------------------------------------------------------------------------

KNOWN: Final = {
    "advertisers": 1,
    "publishers": 10,
    "campaigns": 100,
    "goals": 1000,
    "exchange-rates": "EUR-USD-2020-01-01",
}


def version_of(url: str, headers: dict[str, str]) -> str:
    with urlopen(Request(url, headers=headers)) as response:
        return str(response.headers["ETag"])


def test_every_answer_is_as_the_document_says(world: World) -> None:
    """The last one: what it makes is random."""
    schema = schemathesis.openapi.from_url(f"{world.program.url}/api/v1/openapi.json")
    headers = {"Authorization": f"Bearer {world.program.admin_key}"}
    counts: dict[int, int] = {}
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()

        @given(
            case=st.one_of([operation.as_strategy(generation_mode=mode) for mode in GenerationMode]),
            is_known=st.booleans(),
        )
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def ask(case: schemathesis.Case[Any], *, is_known: bool) -> None:
            sent = dict(headers)
            kind = case.operation.path.split("/")[1]
            if case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE:
                case.headers.pop("Authorization", None)
                if is_known and case.path_parameters:
                    known = {"id": KNOWN[kind], "goal": 1000}
                    case.path_parameters = {name: known[name] for name in case.path_parameters}
                    if case.method == "PATCH":
                        sent["If-Match"] = version_of(f"{world.program.url}/api/v1/{kind}/{KNOWN[kind]}", headers)
            response = case.call(headers=sent)
            counts[response.status_code] = counts.get(response.status_code, 0) + 1
            case.validate_response(response, checks=CHECKS, headers=sent)

        ask()
    print(f"answers by status: {dict(sorted(counts.items()))}")
    assert {200, 201, 401, 404, 422, 428} <= set(counts)
    assert max(counts) < 500
