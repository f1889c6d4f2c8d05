"""`postback keys`: who may use the API, beside the admin key."""

from __future__ import annotations

import sys
from datetime import datetime

from ingest.api_keys import Role, new_key
from ingest.catalog_values import MAX_NAME, text
from ingest.commands.output import console, table
from ingest.commands.session import CommandError, open_database
from ingest.config import Config
from storage.api_keys import create_api_key, list_api_keys, revoke_api_key
from storage.postgres import IntegrityError


async def create_key(config: Config, name: str, role: Role) -> None:
    """Make a key and print it: it is shown this once, and kept nowhere. Raises CommandError."""
    try:
        name = text(MAX_NAME)(name)
    except ValueError as error:
        raise CommandError(f"--name: {error}") from None
    key, digest = new_key()
    async with open_database(config, may_migrate=True) as connection:
        try:
            row = await create_api_key(connection, name, role.value, digest)
        except IntegrityError:
            raise CommandError(
                f"--name: a key is called {name!r} already; take another name or revoke that one"
            ) from None
    console(stderr=True).print(f"key {row.id}, role {role.value}; it is not shown again:")
    sys.stdout.write(f"{key}\n")


async def list_keys(config: Config) -> None:
    """Print all, revoked ones too."""
    async with open_database(config) as connection:
        rows = await list_api_keys(connection)
    if not rows:
        console().print(
            "no keys: `postback keys create --role read --name NAME` makes one; the admin key is in its file"
        )
        return
    lines = [(str(row.id), row.name, row.role, _when(row.created_at), _when(row.revoked_at)) for row in rows]
    console().print(table(("id", "name", "role", "created at", "revoked at"), lines, right=("id",)))


async def revoke_key(config: Config, key_id: int) -> None:
    """Make it worthless, within five seconds everywhere. Raises CommandError."""
    async with open_database(config) as connection:
        row = await revoke_api_key(connection, key_id)
    if row is None:
        raise CommandError(f"there is no key {key_id}; `postback keys list` shows them")
    console().print(f"key {row.id} ({row.name}) is revoked; receivers know within five seconds")


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"
