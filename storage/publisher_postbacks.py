"""Publishers' templates and secrets, as they are edited."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from storage.postgres import Connection, rows_of
from storage.sqlfiles import queries


@dataclass(frozen=True, slots=True)
class PublisherPostback:
    """A template in force, and how many messages wait and were given up. `goal_id` None: for all goals that have none
    of their own."""

    postback_id: int
    publisher_id: int
    publisher_name: str
    goal_id: int | None
    url: str
    method: str
    is_signed: bool
    changed_at: datetime
    changed_by: str
    waiting: int
    given_up: int


async def list_postbacks(connection: Connection) -> list[PublisherPostback]:
    """Those in force, by publisher and goal."""
    return [PublisherPostback(*row) for row in await connection.fetch(queries("publisher_postbacks")["list"])]


async def put_postback(
    connection: Connection, publisher_id: int, goal_id: int | None, url: str, host: str, method: str, changed_by: str
) -> None:
    """Create or replace. Raises IntegrityError where there is no such publisher or goal."""
    await connection.execute(
        queries("publisher_postbacks")["put"], publisher_id, goal_id, url, host, method, changed_by
    )


async def archive_postback(
    connection: Connection, publisher_id: int, goal_id: int | None, changed_by: str
) -> int | None:
    """End it; how many messages were withdrawn that waited. None: there is none."""
    sql = queries("publisher_postbacks")
    async with connection.transaction():
        await connection.execute(sql["lock"])
        postback_id = await connection.fetchval(sql["archive"], publisher_id, goal_id, changed_by)
        if postback_id is None:
            return None
        status = await connection.execute(sql["withdraw"], postback_id)
    return rows_of(status)


async def sealed_secret(connection: Connection, publisher_id: int) -> str | None:
    """Encrypted; None: there is none."""
    secret: str | None = await connection.fetchval(queries("publisher_postbacks")["secret"], publisher_id)
    return secret


async def put_secret(connection: Connection, publisher_id: int, sealed: str | None, changed_by: str) -> None:
    """Keep it, or none. Raises IntegrityError where there is no such publisher."""
    sql = queries("publisher_postbacks")
    if sealed is None:
        await connection.execute(sql["drop_secret"], publisher_id)
    else:
        await connection.execute(sql["put_secret"], publisher_id, sealed, changed_by)
