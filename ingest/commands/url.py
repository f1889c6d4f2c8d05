"""`postback url`: the event postback to hand to an advertiser."""

from __future__ import annotations

import asyncio
import sys

from ingest.catalog_rows import load_snapshot
from ingest.commands.info import places
from ingest.commands.session import CommandError, open_database
from ingest.config import Config
from ingest.event_url import event_url, find_goal
from ingest.vault import ensure_vault


async def show_url(config: Config, campaign_id: int, goal_name: str, base: str | None) -> None:
    """Print it. Raises CommandError for a campaign or goal that does not exist."""
    async with open_database(config) as connection:
        snapshot = await load_snapshot(connection, await asyncio.to_thread(ensure_vault, config.secret_key_path))
        base = base or places(config)["url"]
    if base is None:
        raise CommandError("server.port is 0 and no server runs: give the address with --base")
    campaign = snapshot.campaigns.get(campaign_id)
    if campaign is None:
        known = ", ".join(map(str, sorted(snapshot.campaigns)[:20])) or "none yet: `postback catalog import FILE`"
        raise CommandError(f"there is no campaign {campaign_id}; there are: {known}")
    goal = find_goal(campaign, goal_name)
    if goal is None:
        known = ", ".join(sorted(goal.value for goal in campaign.goals.values())) or "none"
        raise CommandError(f"campaign {campaign_id} has no goal {goal_name!r}; its goals: {known}")
    sys.stdout.write(event_url(base, config.server.paths[0], campaign, goal) + "\n")
