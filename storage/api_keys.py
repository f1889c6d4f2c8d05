"""Keys to the API in Postgres: their digests, never the keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from storage.postgres import Connection, Row
from storage.sqlfiles import queries


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """One key. `digest`: SHA-256 of it, 32 bytes. `revoked_at` None: it is good."""

    id: int
    name: str
    role: str
    digest: bytes = field(repr=False)
    created_at: datetime
    revoked_at: datetime | None


async def create_api_key(connection: Connection, name: str, role: str, digest: bytes) -> ApiKeyRow:
    """A new key. Raises IntegrityError where a good one has the name."""
    row = await connection.fetchrow(queries("api_keys")["create"], name, role, digest)
    assert row is not None, "INSERT ... RETURNING gives a row"
    return ApiKeyRow(*row)


async def list_api_keys(connection: Connection) -> list[ApiKeyRow]:
    """All, the oldest first."""
    return _keys(await connection.fetch(queries("api_keys")["list"]))


async def live_api_keys(connection: Connection) -> list[ApiKeyRow]:
    """Those that are good."""
    return _keys(await connection.fetch(queries("api_keys")["live"]))


async def revoke_api_key(connection: Connection, key_id: int) -> ApiKeyRow | None:
    """The key, good no more; None where there is none."""
    row = await connection.fetchrow(queries("api_keys")["revoke"], key_id)
    return None if row is None else ApiKeyRow(*row)


def _keys(rows: list[Row]) -> list[ApiKeyRow]:
    return [ApiKeyRow(*row) for row in rows]
