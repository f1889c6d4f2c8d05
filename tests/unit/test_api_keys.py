"""Keys of the API: whose they are, and how soon a revoked one is worthless."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingest.admin import AdminKey, digest_of
from ingest.api_keys import FRESH_S, MISS_S, PREFIX, Holder, KeyRing, KeysAwayError, Role, new_key
from storage.api_keys import ApiKeyRow

ADMIN = "a" * 43


class Stored:
    """Keys in a database that counts how often it is asked, and a clock that stands still."""

    def __init__(self) -> None:
        self.rows: list[ApiKeyRow] = []
        self.asked = 0
        self.now_s = 100.0
        self.is_away = False
        self.ring = KeyRing(AdminKey(ADMIN), self.load, lambda: self.now_s)

    async def load(self) -> Sequence[ApiKeyRow]:
        self.asked += 1
        if self.is_away:
            raise KeysAwayError
        return tuple(self.rows)

    def make(self, name: str, role: Role) -> str:
        key, digest = new_key()
        self.rows.append(ApiKeyRow(len(self.rows) + 1, name, role.value, digest, datetime.now(UTC), None))
        return key


async def test_many_requests_are_one_query() -> None:
    stored = Stored()
    reader, admin = stored.make("analyst", Role.READ), stored.make("ops", Role.ADMIN)
    for _ in range(50):
        assert await stored.ring.holder_in(f"Bearer {reader}") == Holder("analyst", Role.READ, 1)
        assert await stored.ring.holder_in(f"bearer  {admin} ") == Holder("ops", Role.ADMIN, 2)
    assert stored.asked == 1
    assert Holder("x", Role.ADMIN).may_change
    assert not Holder("x", Role.READ).may_change


async def test_a_role_of_a_later_version_is_nobody() -> None:
    stored = Stored()
    key = stored.make("later", Role.READ)
    stored.rows[0] = replace(stored.rows[0], role="owner")
    assert await stored.ring.holder_of(key) is None


async def test_who_waits_while_the_database_hangs_waits_once() -> None:
    stored = Stored()
    hung = asyncio.Event()
    loads = 0

    async def load() -> Sequence[ApiKeyRow]:
        nonlocal loads
        loads += 1
        await hung.wait()
        stored.now_s += 5
        raise KeysAwayError

    ring = KeyRing(AdminKey(ADMIN), load, lambda: stored.now_s)
    asking = [asyncio.create_task(ring.holder_of(f"{PREFIX}{number}")) for number in range(20)]
    await asyncio.sleep(0)
    hung.set()
    assert {type(said) for said in await asyncio.gather(*asking, return_exceptions=True)} == {KeysAwayError}
    assert loads == 1
    with pytest.raises(KeysAwayError):
        await ring.holder_of(f"{PREFIX}later")
    assert loads == 2, "whoever comes later asks anew"


@pytest.mark.parametrize(
    ("holder", "may"),
    [
        (Holder("admin key", Role.ADMIN), "look, change, register"),
        (Holder("ops", Role.ADMIN, 1), "look, change"),
        (Holder("analyst", Role.READ, 2), "look"),
        (Holder("tracker", Role.CLICKS, 3), "register"),
    ],
)
def test_what_a_key_is_for(holder: Holder, may: str) -> None:
    rights = {"look": holder.may_look, "change": holder.may_change, "register": holder.may_register}
    assert ", ".join(name for name, given in rights.items() if given) == may


async def test_a_revoked_key_is_good_for_five_seconds_at_most() -> None:
    stored = Stored()
    key = stored.make("analyst", Role.READ)
    assert await stored.ring.holder_of(key) == await stored.ring.holder_with(digest_of(key)) is not None
    stored.rows.clear()
    stored.now_s += FRESH_S - 0.01
    assert await stored.ring.holder_with(digest_of(key)), "known from before"
    stored.now_s += 0.02
    assert await stored.ring.holder_with(digest_of(key)) is None
    assert await stored.ring.holder_of(key) is None
    assert FRESH_S < 10


async def test_a_new_key_is_known_soon_and_wrong_ones_ask_seldom() -> None:
    stored = Stored()
    assert await stored.ring.holder_of("pbk_wrong") is None
    key = stored.make("new", Role.READ)
    stored.now_s += MISS_S
    assert await stored.ring.holder_of(key) is not None
    asked = stored.asked
    for _ in range(100):
        assert await stored.ring.holder_of(f"{PREFIX}wrong") is None
    assert stored.asked == asked


async def test_without_postgres_only_the_admin_key_is_known() -> None:
    stored = Stored()
    key = stored.make("analyst", Role.READ)
    stored.is_away = True
    assert await stored.ring.holder_of(ADMIN) == Holder("admin key", Role.ADMIN)
    with pytest.raises(KeysAwayError):
        await stored.ring.holder_of(key)
    assert await stored.ring.holder_with(digest_of(ADMIN)) == Holder("admin key", Role.ADMIN)


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic x", "Bearer \udcff", f"Bearer {ADMIN}x"])
async def test_what_is_no_key(header: str | None) -> None:
    assert await Stored().ring.holder_in(header) is None


def test_a_key_is_long_and_shown_by_nothing() -> None:
    key, digest = new_key()
    assert len(key.removeprefix(PREFIX)) >= 43
    assert new_key()[0] != key
    assert str(digest) not in repr(ApiKeyRow(1, "x", "read", digest, datetime.now(UTC), None))
