"""`postback erase`: personal data of a click, out of every table."""

from __future__ import annotations

from ingest.commands.output import console
from ingest.commands.session import login_name, open_database
from ingest.config import Config
from storage.erasure import erase


async def erase_click(config: Config, click_id: str, made_by: str | None, *, dry_run: bool) -> int:
    """Erase, and print how many rows of each table. The exit status: 1 if something was left for now."""
    async with open_database(config) as connection:
        erased = await erase(connection, click_id, made_by or login_name(), is_dry=dry_run)
    for table, count in erased.rows.items():
        if count:
            console().print(f"{table}: {count:,} {'would be erased' if dry_run else 'erased'}")
    if not erased.total:
        console().print("nothing to erase")
    if erased.left:
        console(stderr=True).print(f"{erased.left:,} parked, about to be decided: run it again in a minute")
    return 1 if erased.left else 0
