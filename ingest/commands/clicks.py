"""`postback clicks import`: clicks from a file, into Postgres; receivers read them from there."""

from __future__ import annotations

from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ingest.click_file import ImportResult, import_clicks
from ingest.commands.output import console, visible
from ingest.commands.session import prepared
from ingest.config import Config
from storage.postgres import close, open_pool

MAX_SHOWN = 20


async def import_click_file(config: Config, path: Path) -> int:
    """The exit status: 1 if a line could not be read."""
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=not console(stderr=True).is_terminal,
    )
    async with prepared(config, may_migrate=True) as urls:
        pool = await open_pool(urls.postgres_dsn, 1)
        try:
            with progress:
                task = progress.add_task("clicks", total=None)
                result = await import_clicks(
                    path, pool, lambda done, total: progress.update(task, completed=done, total=total)
                )
        finally:
            await close(pool)
    _report(result)
    return 1 if result.error_count else 0


def _report(result: ImportResult) -> None:
    err = console(stderr=True)
    for number, problem in result.errors[:MAX_SHOWN]:
        err.print(f"line {number}: {visible(problem)}", soft_wrap=True)
    if result.error_count > MAX_SHOWN:
        err.print(f"and {result.error_count - MAX_SHOWN:,} more lines like these")
    summary = f"{result.registered:,} clicks registered, {result.known:,} known before"
    if result.error_count:
        summary += f", {result.error_count:,} lines skipped: correct them and import the file again"
    console().print(summary)
