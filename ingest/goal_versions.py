"""Goals as they were when conversions were decided on them: from the catalog, else from its history."""

from __future__ import annotations

from collections.abc import Collection

from ingest.catalog import Goal
from ingest.catalog_reader import CatalogReader
from ingest.catalog_rows import build_goal
from ingest.catalog_table import CatalogProblem, Table
from storage.adjustments import goal_documents
from storage.catalog_store import Part, select_catalog
from storage.postgres import Connection

GoalVersion = tuple[int, int]
"""(goal id, version)"""


async def goals_at(connection: Connection, wanted: Collection[GoalVersion]) -> dict[GoalVersion, Goal]:
    """Those that are known. The caller's transaction says of which moment."""
    rows = (await select_catalog(connection, Part(goals=sorted({goal_id for goal_id, _ in wanted})))).goals
    found = {(row.id, row.version): build_goal(row) for row in rows}
    earlier = sorted(set(wanted) - found.keys())
    if earlier:
        for goal_id, version, campaign_id, document in await goal_documents(connection, earlier):
            problems: list[CatalogProblem] = []
            row = CatalogReader(None).goal(Table(document, "", problems), campaign_id)
            if not problems:
                found[goal_id, version] = build_goal(row)
    return found
