"""Who may use the API and the console: holders of the admin key or of a key in Postgres."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from hmac import compare_digest
from typing import Final

from ingest.admin import AdminKey, bearer, digest_of
from storage.api_keys import ApiKeyRow, live_api_keys
from storage.postgres import AWAY, Pool, borrowed

FRESH_S: Final = 5.0
"""How long the keys are used before they are read again: a revoked one is good for so long at most."""
MISS_S: Final = 0.2
"""How soon they are read again for a key that is not among them: it may be new."""
TIMEOUT_S: Final = 5.0
PREFIX: Final = "pbk_"
"""What a key begins with, so that it is known where it turns up."""


class Role(StrEnum):
    """What a key is for: `read` looks at everything, `admin` changes it too, `clicks` registers clicks, no more."""

    READ = "read"
    ADMIN = "admin"
    CLICKS = "clicks"


_ROLES: Final = frozenset(role.value for role in Role)


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose request it is. `name` stands in the catalog's history. `key_id` None: the admin key of the file."""

    name: str
    role: Role
    key_id: int | None = None

    @property
    def may_look(self) -> bool:
        """Whether it may look at anything."""
        return self.role is not Role.CLICKS

    @property
    def may_change(self) -> bool:
        """Whether it may change anything."""
        return self.role is Role.ADMIN

    @property
    def may_register(self) -> bool:
        """Whether it may register clicks."""
        return self.role is Role.CLICKS or self.key_id is None


class KeysAwayError(Exception):
    """Postgres cannot be asked whose key it is."""


def new_key() -> tuple[str, bytes]:
    """A key of 256 random bits, and its digest."""
    key = PREFIX + secrets.token_urlsafe(32)
    return key, digest_of(key)


class KeyRing:
    """Knows keys without a query for each request. `clock`: seconds that never go back."""

    def __init__(
        self, admin: AdminKey, load: Callable[[], Awaitable[Sequence[ApiKeyRow]]], clock: Callable[[], float]
    ) -> None:
        self._admin = admin
        self._load = load
        self._clock = clock
        self._keys: Sequence[ApiKeyRow] = ()
        self._loaded_s: float | None = None
        self._failed_s: float | None = None
        self._loading = asyncio.Lock()

    async def holder_in(self, authorization: str | None) -> Holder | None:
        """Whose key an Authorization header carries, as Bearer. Raises KeysAwayError."""
        key = bearer(authorization)
        return None if key is None else await self.holder_of(key)

    async def holder_of(self, key: str) -> Holder | None:
        """Whose key it is. Raises KeysAwayError; the admin key is known without Postgres."""
        digest = digest_of(key)
        found = await self.holder_with(digest)
        if found is None and key.startswith(PREFIX):
            await self._refresh(MISS_S)
            found = self._find(digest)
        return found

    async def holder_with(self, digest: bytes) -> Holder | None:
        """Whose key has this digest now: someone came with it before. Raises KeysAwayError, as above."""
        if self._admin.has_digest(digest):
            return Holder("admin key", Role.ADMIN)
        await self._refresh(FRESH_S)
        return self._find(digest)

    def _find(self, digest: bytes) -> Holder | None:
        """In the same time wherever it is, and whether it is there or not."""
        found = None
        for row in self._keys:
            if compare_digest(row.digest, digest):
                found = row
        if found is None or found.role not in _ROLES:  # a later version may have more roles
            return None
        return Holder(found.name, Role(found.role), found.id)

    async def _refresh(self, age_s: float) -> None:
        """Read the keys, unless that was done just now. Whoever waits while it fails shares the failure: time limits
        one after the other would be minutes."""
        came_s = self._clock()
        async with self._loading:
            if self._failed_s is not None and self._failed_s > came_s:
                raise KeysAwayError
            asked_s = self._clock()
            if self._loaded_s is None or asked_s - self._loaded_s >= age_s:
                try:
                    self._keys = await self._load()
                except KeysAwayError:
                    self._failed_s = self._clock()
                    raise
                self._loaded_s = asked_s


def stored_keys(pool: Pool) -> Callable[[], Awaitable[Sequence[ApiKeyRow]]]:
    """Reads the good keys. Raises KeysAwayError."""

    async def load() -> Sequence[ApiKeyRow]:
        try:
            async with borrowed(pool, TIMEOUT_S) as connection:
                return await live_api_keys(connection)
        except AWAY as error:
            raise KeysAwayError from error

    return load
