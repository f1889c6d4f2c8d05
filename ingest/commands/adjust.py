"""`postback adjust`: refunds, chargebacks, corrections and statuses, one or a file of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from ingest.adjusting import Done, Verdict, apply_requests
from ingest.adjustment_file import apply_file, read_request
from ingest.adjustments import AdjustmentError
from ingest.commands.output import console, visible
from ingest.commands.session import CommandError, login_name, open_database
from ingest.config import Config


async def adjust_by_file(config: Config, path: Path, made_by: str | None, *, dry_run: bool) -> int:
    """Each line's verdict, in order. The exit status: 1 if a line was refused."""
    counts: Counter[Done] = Counter()
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TimeRemainingColumn(),
        console=console(stderr=True),
        disable=not console(stderr=True).is_terminal,
    )
    # Where both are on the terminal, the bar must know of the lines that push it down.
    out = progress.console if console().is_terminal and not progress.disable else console()
    async with open_database(config, may_migrate=True) as connection:
        with progress:
            task = progress.add_task("adjustments", total=None)

            def tell(done: int, total: int, verdicts: Sequence[tuple[int, Verdict]]) -> None:
                for number, verdict in verdicts:
                    counts[verdict.done] += 1
                    out.print(f"line {number}: {_shown(verdict, dry_run=dry_run)}", soft_wrap=True)
                progress.update(task, completed=done, total=total)

            await apply_file(path, connection, made_by or login_name(), tell, dry_run=dry_run)
    applied = "would be applied" if dry_run else "applied"
    summary = (
        f"{counts[Done.APPLIED]:,} {applied}, {counts[Done.KNOWN]:,} known before, {counts[Done.REFUSED]:,} refused"
    )
    if counts[Done.REFUSED]:
        summary += ": correct them and run the file again"
    console(stderr=True).print(summary)
    return 1 if counts[Done.REFUSED] else 0


async def adjust_one(config: Config, pairs: Sequence[str], made_by: str | None, *, dry_run: bool) -> int:
    """What `NAME=VALUE` pairs ask for. The exit status: 1 if it was refused."""
    fields: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise CommandError(f"{pair}: expected one FILE.csv, or NAME=VALUE for one conversion")
        if name in fields:
            raise CommandError(f"{name}: given twice")
        fields[name] = value
    try:
        request = read_request(fields)
    except AdjustmentError as error:
        raise CommandError(str(error)) from None
    async with open_database(config, may_migrate=True) as connection:
        (verdict,) = await apply_requests(connection, [request], made_by or login_name(), dry_run=dry_run)
    is_refused = verdict.done is Done.REFUSED
    console(stderr=is_refused).print(_shown(verdict, dry_run=dry_run), soft_wrap=True)
    return 1 if is_refused else 0


def _shown(verdict: Verdict, *, dry_run: bool) -> str:
    word = "would be applied" if dry_run and verdict.done is Done.APPLIED else verdict.done
    return f"{word}: {visible(verdict.text)}{f' ({verdict.conversion_id})' if verdict.conversion_id else ''}"
