"""Requests about conversions from names and values, and CSV files of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID

from ingest import money
from ingest.adjusting import MAX_REQUESTS, Done, Verdict, apply_requests
from ingest.adjustments import Adjust, AdjustmentError, AdjustmentKind, Request, SetStatus, Target
from ingest.row_file import open_file, read_csv
from ingest.text import BLANKS, problem
from storage.postgres import Connection
from storage.statuses import STATUSES

NAMES: Final = (
    "conversion_id", "click_id", "goal", "txn_id", "kind", "status", "sale_amount", "percent", "revenue", "payout",
    "currency", "reference", "reason",
)  # fmt: skip
"""What a request can give."""

MAX_TEXT_BYTES: Final = 255
_OF_AN_ADJUSTMENT: Final = ("sale_amount", "percent", "revenue", "payout", "currency")

Line = tuple[int, Request | AdjustmentError]
"""(number of the line, from 1; its request or what is wrong with it)"""

OnChunk = Callable[[int, int, list[tuple[int, Verdict]]], None]
"""Told (bytes done, bytes in all, what became of the lines since then)."""


async def apply_file(
    path: Path, connection: Connection, made_by: str, on_chunk: OnChunk, *, dry_run: bool = False
) -> None:
    """Apply what each line of a CSV file asks for; a line that is refused is told and does not hold up the others.
    Idempotent: run it again after a failure.

    Raises RowFileError, and what Postgres answers. In a dry run nothing is written, and lines that are far apart do not
    see each other.
    """
    with await asyncio.to_thread(open_file, path) as file:
        total = await asyncio.to_thread(lambda: path.stat().st_size)
        lines = read_file(path, file)
        while chunk := await asyncio.to_thread(lambda: list(islice(lines, MAX_REQUESTS))):
            requests = [item for _, item in chunk if not isinstance(item, AdjustmentError)]
            verdicts = iter(await apply_requests(connection, requests, made_by, dry_run=dry_run))
            told = [
                (number, Verdict(Done.REFUSED, str(item)) if isinstance(item, AdjustmentError) else next(verdicts))
                for number, item in chunk
            ]
            on_chunk(file.tell(), total, told)


def read_file(path: Path, file: BinaryIO) -> Iterator[Line]:
    """The file's requests, line by line. Raises RowFileError, when the first line is asked for."""
    for number, row in read_csv(path, file, known=NAMES):
        try:
            if isinstance(row, str):
                raise AdjustmentError(row)
            yield number, read_request(row)
        except AdjustmentError as error:
            yield number, error


def read_request(fields: Mapping[str, str]) -> Request:
    """One request; what is empty counts as not given. Raises AdjustmentError, which names the field."""
    given = {name: value for name, text in fields.items() if (value := text.strip(BLANKS))}
    for name, value in given.items():
        if name not in NAMES:
            raise AdjustmentError(f"{name}: is not known; known are: {', '.join(NAMES)}")
        wrong = problem(value, MAX_TEXT_BYTES)
        if wrong is not None:
            raise AdjustmentError(f"{name}: {wrong}")
    target = _target(given)
    if ("kind" in given) == ("status" in given):
        raise AdjustmentError("kind: expected either kind (refund, chargeback or correction) or status")
    return _adjust(given, target) if "kind" in given else _set_status(given, target)


def _target(given: Mapping[str, str]) -> Target:
    text = given.get("conversion_id")
    names = [name for name in ("click_id", "goal", "txn_id") if name in given]
    if text is None:
        if "click_id" not in given:
            raise AdjustmentError("conversion_id: missing; give it, or click_id with goal and txn_id")
        return Target(None, given["click_id"], given.get("goal"), given.get("txn_id"))
    if names:
        raise AdjustmentError(f"{names[0]}: give either conversion_id or click_id, goal and txn_id")
    try:
        return Target(UUID(text))
    except ValueError:
        raise AdjustmentError("conversion_id: expected a UUID") from None


def _set_status(given: Mapping[str, str], target: Target) -> SetStatus:
    status = given["status"].lower()
    if status not in STATUSES:
        raise AdjustmentError("status: expected approved, pending, rejected or cancelled")
    for name in _OF_AN_ADJUSTMENT:
        if name in given:
            raise AdjustmentError(f"{name}: a status moves no money; give kind for that, in a line of its own")
    return SetStatus(target, status, given.get("reference"), given.get("reason"))


def _adjust(given: Mapping[str, str], target: Target) -> Adjust:
    try:
        kind = AdjustmentKind(given["kind"].lower())
    except ValueError:
        raise AdjustmentError("kind: expected refund, chargeback or correction") from None
    if "reference" not in given:
        raise AdjustmentError("reference: missing; it is what makes a second run harmless, e.g. the refund's id")
    if "sale_amount" in given and "percent" in given:
        raise AdjustmentError("percent: give either sale_amount or percent")
    signed = kind is AdjustmentKind.CORRECTION
    return Adjust(
        target=target,
        kind=kind,
        reference=given["reference"],
        sale_micros=_amount(given, "sale_amount", signed=signed),
        micro_percent=_percent(given),
        revenue_micros=_amount(given, "revenue", signed=signed),
        payout_micros=_amount(given, "payout", signed=signed),
        currency=given["currency"].upper() if "currency" in given else None,
        reason=given.get("reason"),
    )


def _amount(given: Mapping[str, str], name: str, *, signed: bool) -> int | None:
    text = given.get(name)
    if text is None:
        return None
    is_negative = signed and text.startswith("-")
    try:
        micros = money.parse_amount(text[1:] if is_negative else text)
    except money.AmountError as error:
        hint = "; what is taken back has no sign" if text.startswith("-") and not signed else ""
        raise AdjustmentError(f"{name}: {error}{hint}") from None
    return -micros if is_negative else micros


def _percent(given: Mapping[str, str]) -> int | None:
    text = given.get("percent")
    if text is None:
        return None
    try:
        micro_percent = money.parse_percent(text.removesuffix("%"))
    except money.AmountError as error:
        raise AdjustmentError(f"percent: {error}") from None
    if not 0 < micro_percent <= 100 * money.MICROS:
        raise AdjustmentError("percent: expected more than 0 and at most 100")
    return micro_percent
