"""Parts of the console that need no program: sessions, forms, charts, words, the live feed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from ingest.addresses import parse_networks
from ingest.admin import AdminKey
from ingest.api_keys import FRESH_S, KeyRing, Role, new_key
from ingest.console import words
from ingest.console.charts import BOTTOM, HEIGHT, TOP, WIDTH, chart, times
from ingest.console.clicks import happenings
from ingest.console.fields import change_rows, goal_document, goal_fields, read_goal
from ingest.console.formats import differences, money
from ingest.console.forms import MAX_FIELDS, Form, FormError, items, number, read_form
from ingest.console.live import LOOK_ROWS, MAX_LISTENERS, MAX_WAITING, FullError, LiveFeed
from ingest.console.pages import Pages
from ingest.console.sessions import COOKIE, LIFETIME_S, Sessions
from ingest.console.throttle import FAILURES, FORGET_S, MAX_ADDRESSES, LoginThrottle
from ingest.console.visits import Surroundings
from ingest.outbound.delivery import Fault
from ingest.outcome import Result
from ingest.reasons import Reason
from ingest.vault import ensure_vault
from storage.activity import ClickStory, Filter, PostbackEntry
from storage.api_keys import ApiKeyRow
from storage.outbox import Attempt, Message, State

NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)


# Sessions ------------------------------------------------------------------------------------------------------------


class World:
    """A clock, a key in a table, and sessions of two processes with the same file of keys."""

    def __init__(self, folder: Path) -> None:
        self.now_s = 1_000_000.0
        self.key, digest = new_key()
        self.rows = [ApiKeyRow(1, "analyst", Role.READ.value, digest, NOW, None)]
        self.path = folder / "secret.key"
        self.one, self.other = self.process(), self.process()

    def process(self) -> Sessions:
        ring = KeyRing(AdminKey("a long admin key"), self.load, lambda: self.now_s)
        return Sessions(ensure_vault(self.path), ring, lambda: self.now_s)

    async def load(self) -> Sequence[ApiKeyRow]:
        return list(self.rows)

    @staticmethod
    def cookie(sessions: Sessions, response: web.Response) -> web.Request:
        return make_mocked_request("GET", "/", headers={"Cookie": f"{COOKIE}={response.cookies[COOKIE].value}"})


async def test_a_session_is_known_everywhere_until_it_or_its_key_ends(tmp_path: Path) -> None:
    world = World(tmp_path)
    session = await world.one.log_in(f" {world.key} ")
    assert session is not None
    response = web.Response()
    world.one.give(response, session, is_secure=True)
    assert world.key not in str(response.cookies)
    request = world.cookie(world.one, response)
    assert world.other.read(request) == session
    holder = await world.other.holder_of(session)
    assert holder is not None
    assert (holder.name, holder.may_change) == ("analyst", False)

    world.rows.clear()
    world.now_s += FRESH_S
    assert await world.other.holder_of(session) is None, "the key was revoked"
    admin = await world.one.log_in("a long admin key")
    assert admin is not None
    world.now_s += LIFETIME_S - 1
    assert await world.one.holder_of(admin) is not None
    world.now_s += 2
    assert await world.one.holder_of(admin) is None
    assert world.one.read(request) is None


async def test_what_is_no_session(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert await world.one.holder_of(world.one.begin()) is None, "nobody's"
    assert await world.one.log_in("") is None
    assert await world.one.log_in("wrong") is None
    tracker, digest = new_key()
    world.rows.append(ApiKeyRow(9, "tracker", Role.CLICKS.value, digest, NOW, None))
    assert await world.one.log_in(tracker) is None, "it may not look"
    secret = ensure_vault(world.path).seal('{"digest":"","token":"","expires_s":9999999999}')
    response = web.Response()
    response.set_cookie(COOKIE, secret.removeprefix("enc:"))
    assert world.one.read(world.cookie(world.one, response)) is None, "sealed for something else"
    assert len({world.one.begin().token for _ in range(100)}) == 100


def test_failures_add_up_and_are_forgotten() -> None:
    now_s = 0.0
    throttle = LoginThrottle(lambda: now_s)
    for _ in range(FAILURES):
        assert throttle.wait_s("a") == 0
        throttle.failed("a")
    assert 0 < throttle.wait_s("a") <= FORGET_S
    assert throttle.wait_s("b") == 0
    now_s += FORGET_S
    assert throttle.wait_s("a") == 0
    throttle.failed("a")
    assert throttle.wait_s("a") > 0
    for number_of in range(MAX_ADDRESSES):
        throttle.failed(str(number_of))
    assert throttle.wait_s("a") == 0, "the oldest made way"


@pytest.mark.parametrize(
    ("trusted", "proto", "is_secure"),
    [
        ((), "https", False),
        (("10.0.0.0/8",), "https", False),
        (("127.0.0.1",), "https", True),
        (("127.0.0.1",), "", False),
    ],
)
def test_only_a_trusted_proxy_says_that_it_was_https(trusted: tuple[str, ...], proto: str, is_secure: bool) -> None:
    request = make_mocked_request("GET", "/", headers={"X-Forwarded-Proto": proto, "Host": "t.example.com"})
    request = request.clone(remote="127.0.0.1")
    surroundings = Surroundings(parse_networks(trusted))
    assert surroundings.is_secure(request) is is_secure
    assert surroundings.origin(request) == f"http{'s' if is_secure else ''}://t.example.com"


# Forms ---------------------------------------------------------------------------------------------------------------


def test_a_form_is_read_row_by_row() -> None:
    form = read_form(b"title=+A%20b+&rates%5B10%5D.publisher=1&rates%5B2%5D.publisher=2&caps%5B0%5D.limit=&do=x&do=y")
    assert (form.text("title"), form.text("none", "-"), form.texts("do")) == ("A b", "-", ["x", "y"])
    assert [row.text("publisher") for row in form.rows("rates")] == ["2", "1"]
    assert [row.text("limit") for row in form.rows("caps")] == [""]


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff", b"&".join([b"a=1"] * (MAX_FIELDS + 1))])
def test_what_is_no_form(body: bytes) -> None:
    with pytest.raises(FormError):
        read_form(body)


def test_numbers_and_lists_in_inputs() -> None:
    assert [number(text) for text in ("10 North Media", "7", "", "North", "-1", "1" * 30)] == [
        10,
        7,
        None,
        "North",
        "-1",
        "1" * 30,
    ]
    assert items(" US,CA ;DE\n") == ["US", "CA", "DE"]


def test_a_goal_that_is_shown_and_sent_back_is_the_same() -> None:
    goal = {
        "title": "Sale",
        "value": "sale",
        "default": True,
        "type": "private",
        "publishers": [10, 11],
        "track_multiple": "yes_with_txn_id",
        "status": "active",
        "approval": "manual",
        "hold": "14d",
        "rates": [
            {
                "countries": ["US", "CA"],
                "publisher": 10,
                "revenue": {"fixed": "2", "percent": "0"},
                "payout": {"fixed": "0", "percent": "70", "of": "revenue"},
            }
        ],
        "caps": [
            {
                "measure": measure,
                "period": "day",
                "limit": limit,
                "action": "pending",
                "publisher": None,
                "each_publisher": True,
            }
            for measure, limit in (("conversions", 100), ("payout", "12.5"))
        ],
    }
    assert goal_document(goal_fields(goal)) == goal


def test_rows_come_and_go() -> None:
    fields = read_goal(Form([("rates[0].countries", "US"), ("rates[1].countries", "DE")]))
    assert change_rows(fields, "add-rates") == "rates[2].countries"
    assert change_rows(fields, "remove-rates-0") == "add-rates"
    assert [rate.countries for rate in fields.rates] == ["DE", ""]
    assert change_rows(fields, "add-caps") == "caps[0].measure"
    for nothing in ("", "save", "add-title", "remove-rates-9", "remove-rates-x", "remove-rates"):
        assert change_rows(fields, nothing) is None
    assert len(fields.rates) == 2


# What is shown -------------------------------------------------------------------------------------------------------


def test_every_code_has_words() -> None:
    assert set(words.REASONS) == {reason.value for reason in Reason}
    told = {Result.ACCEPTED, Result.DUPLICATE, Result.CONFLICT, Result.REJECTED, Result.PARKED, Result.INVALID}
    assert set(words.OUTCOMES) == {result.value for result in told}
    assert words.explain("no such", "no such") == ""
    assert set(words.FAULTS) == {fault.value for fault in Fault}
    assert set(words.TOLD) == set(get_args(State))


def test_each_attempt_to_tell_a_publisher_is_said_in_words() -> None:
    log = (Attempt(NOW, 12, 503, "http_status"), Attempt(NOW, 1_500, None, "timeout"))
    times = (NOW, NOW, NOW + timedelta(days=1), NOW + timedelta(days=1))
    message = Message("id", NOW, 10, None, "<b>.example", "given_up", 1_234_500_000, *times, 2, log)
    story = ClickStory(None, [], [], [], [], [], [], [message])
    assert [(one.at - NOW, one.what, one.why) for one in happenings(story)] == [
        (timedelta(), "Could not tell publisher 10", "<b>.example: 503 after 12 ms: it did not take it."),
        (timedelta(), "Could not tell publisher 10", "<b>.example: no status after 1,500 ms: no answer in time."),
        (timedelta(days=1), "Message to publisher 10: given up", "It failed until its time was over."),
    ]
    sent = replace(message, state="sent", log=(Attempt(NOW, 35, 200, None),))
    (told,) = happenings(replace(story, messages=[sent]))
    assert (told.what, told.why) == ("Told publisher 10", "<b>.example: 200 after 35 ms.")
    text = Pages().render(
        "click.html", click_id="c", story=story, happenings=list(happenings(story)), me=None, place="/click", csrf=""
    )
    assert "<b>.example" not in text
    assert text.count("&lt;b&gt;.example") == 3
    assert "1,234.50" in text


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0", "0.00"), ("1234.5", "1,234.50"), ("0.000001", "0.000001"), ("-3.1000", "-3.10"), ("1E+3", "1,000.00")],
)
def test_money_is_never_rounded(value: str, shown: str) -> None:
    assert money(Decimal(value)) == shown


def test_differences_name_their_place() -> None:
    before = {"title": "A", "rates": [{"payout": {"fixed": "1"}}], "publishers": [1, 2], "hold": None, "default": False}
    after = {
        "title": "A",
        "rates": [{"payout": {"fixed": "2"}}, {"countries": ["US"]}],
        "publishers": [],
        "default": True,
    }
    assert differences(before, after) == [
        ("rates[0].payout.fixed", "1", "2"),
        ("publishers", "1, 2", None),
        ("default", "no", "yes"),
        ("rates[1].countries", None, "US"),
    ]


@given(st.lists(st.tuples(st.integers(0, 10**12), st.decimals(-(10**9), 10**9, places=6)), min_size=1, max_size=48))
def test_a_chart_stays_in_its_frame(rows: list[tuple[int, Decimal]]) -> None:
    at = times(NOW, len(rows), by_day=False)
    series = {
        name: dict(zip(at, values, strict=True)) for name, values in zip("ab", zip(*rows, strict=True), strict=True)
    }
    made = chart(at, series, by_day=False)
    assert made.is_empty is not any(any(row) for row in rows)
    for column in made.columns:
        for bar in column.bars:
            assert TOP - 0.01 <= bar.y <= bar.y + bar.height <= HEIGHT - BOTTOM + 0.51
            assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        up = sum(bar.height for bar in column.bars if bar.y < made.zero - 0.01)
        assert up <= made.zero - TOP + 0.51 * len(column.bars)
    assert all(TOP - 0.01 <= tick.place <= HEIGHT - BOTTOM + 0.01 for tick in made.across)
    assert 2 <= len(made.across) <= 9


# The live feed -------------------------------------------------------------------------------------------------------


def entry(place: int, at: datetime, outcome: str = "accepted", click_id: str = "c") -> PostbackEntry:
    nothing = (None,) * 3
    return PostbackEntry(UUID(int=place), at, outcome, None, 1, *nothing[:2], click_id, *nothing, *nothing, None)


class Stored:
    """What Postgres has, in order of time."""

    def __init__(self) -> None:
        self.rows: list[PostbackEntry] = []
        self.rendered = 0
        self.feed = LiveFeed(self.latest, self.fetch, self.render)

    async def latest(self, limit: int) -> list[PostbackEntry]:
        return sorted(self.rows, key=lambda one: one.received_at, reverse=True)[:limit]

    async def fetch(self, since: datetime, limit: int) -> list[PostbackEntry]:
        return [one for one in await self.latest(10**6) if one.received_at > since][:limit]

    def render(self, one: PostbackEntry) -> str:
        self.rendered += 1
        return str(one.entry_id.int)


async def test_each_listener_hears_what_its_filter_lets_through_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.console.live.LOOK_EVERY_S", 0.001)
    stored = Stored()
    stored.rows.append(entry(1, NOW - timedelta(hours=3)))  # the writers are three hours behind
    with stored.feed.listen(Filter()) as everything, stored.feed.listen(Filter(click_id="x")) as one:
        await everything.has_news.wait()
        everything.take()
        for place, late_s in ((2, 1), (3, 20), (4, 12)):
            stored.rows.append(entry(place, NOW - timedelta(hours=3) + timedelta(seconds=late_s), click_id="x"))
        heard: list[str] = []
        while len(heard) < 3:
            await one.has_news.wait()
            heard += [shown.html for shown in one.take()[0]]
        assert sorted(heard) == ["2", "3", "4"]
        await asyncio.sleep(0.01)
        assert one.take() == ([], False), "each once"
        assert stored.rendered == 4, "a row is made once for all"
    assert stored.feed._task is None  # nobody listens, nobody looks


async def test_what_is_too_much_makes_way_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.console.live.LOOK_EVERY_S", 0.001)
    stored = Stored()
    with stored.feed.listen(Filter(outcome="rejected")) as listener:
        stored.rows += [entry(place, NOW + timedelta(milliseconds=place), "rejected") for place in range(LOOK_ROWS * 2)]
        await listener.has_news.wait()
        shown, is_cut = listener.take()
        assert len(shown) == MAX_WAITING
        assert is_cut
        assert stored.rendered == MAX_WAITING


async def test_listeners_have_a_limit_and_an_end() -> None:
    stored = Stored()
    with stored.feed.listen(Filter()) as listener:
        more = [stored.feed.listen(Filter()) for _ in range(MAX_LISTENERS - 1)]
        for one in more:
            one.__enter__()
        with pytest.raises(FullError), stored.feed.listen(Filter()):
            pass
        stored.feed.close()
        async with asyncio.timeout(1):
            await listener.has_news.wait()
        assert listener.is_over
        for one in more:
            one.__exit__(None, None, None)
    with pytest.raises(FullError), stored.feed.listen(Filter()):
        pass
