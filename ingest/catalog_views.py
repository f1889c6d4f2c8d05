"""Rows as the API and the console show them, and what comes back from there as rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Final

from ingest import catalog_values as values
from ingest.catalog_change import SECRETS, Kind, key_of
from ingest.catalog_documents import Document, Row, document_of
from ingest.catalog_file import CatalogError
from ingest.catalog_reader import CatalogReader, exchange_rate
from ingest.catalog_table import CatalogProblem, Table
from ingest.margins import margin_document, payout_warnings
from ingest.vault import PREFIX, Vault
from storage.rows import AdvertiserRow, GoalRow

READ_ONLY: Final = ("version", "margins", "warnings")
"""Keys of a view that say nothing on the way in."""
_SHOWN: Final = 12


def view_of(row: Row, vault: Vault) -> Document:
    """The row under the keys of a catalog file, and besides: `version`, a goal's `campaign`, `margins` (one for each
    rate) and `warnings`. Secrets are shown as `stored:…`, which tells one from another and nothing else."""
    view: Document = {"id": key_of(row), "version": row.version}
    if isinstance(row, GoalRow):
        view["campaign"] = row.campaign_id
    view |= {key: value.isoformat() if isinstance(value, date) else value for key, value in document_of(row).items()}
    if isinstance(row, AdvertiserRow):
        for key, secrets in _secrets(row).items():
            view[key] = [_reference(secret, vault) for secret in secrets]
    if isinstance(row, GoalRow):
        view["margins"] = [margin_document(rate) for rate in row.rates]
        view["warnings"] = [problem._asdict() for problem in payout_warnings(row.rates)]
    return view


def row_of(kind: Kind, view: Mapping[str, object], vault: Vault, *, present: Row | None = None) -> Row:
    """The row that a view describes, by the rules of a catalog file. `present`: what it is now, whose key stays and
    whose secrets can be referred to. Its version says nothing. Raises CatalogError with every problem."""
    problems: list[CatalogProblem] = []
    document = {key: value for key, value in view.items() if key not in READ_ONLY}
    if isinstance(present, AdvertiserRow):
        _resolve(document, present, vault)
    table = Table(document, "", problems)
    reader = CatalogReader(vault)
    row: Row
    match kind:
        case Kind.ADVERTISER:
            row = reader.advertiser(table)
        case Kind.PUBLISHER:
            row = reader.publisher(table)
        case Kind.CAMPAIGN:
            row = reader.campaign(table)
            table.done()
        case Kind.GOAL:
            row = reader.goal(table, table.take("campaign", values.identifier, 0, required=True))
        case Kind.EXCHANGE_RATE:
            given = document.pop("id", None)
            row = exchange_rate(table)
            if given is not None and given != key_of(row) and not problems:
                table.problem("id", "is made of from, to and valid_from, which cannot be changed")
    if isinstance(present, GoalRow) and isinstance(row, GoalRow) and row.campaign_id != present.campaign_id:
        table.problem("campaign", f"the goal belongs to campaign {present.campaign_id}, and stays there")
    if kind is not Kind.EXCHANGE_RATE and present is not None and key_of(row) != key_of(present):
        table.problem("id", "cannot be changed")
    if problems:
        raise CatalogError(problems)
    return row


def _secrets(row: AdvertiserRow) -> dict[str, tuple[str, ...]]:
    return dict(zip(SECRETS, (row.security_tokens, row.signing_secrets), strict=True))


def _reference(stored: str, vault: Vault) -> str:
    """A keyed fingerprint: without the vault's key nobody can try tokens against it."""
    sealed = stored if stored.startswith(PREFIX) else vault.seal(stored)
    return values.STORED + sealed.removeprefix(PREFIX)[:_SHOWN]


def _resolve(document: dict[str, object], present: AdvertiserRow, vault: Vault) -> None:
    """Put what is stored in the place of references to it."""
    for key, stored in _secrets(present).items():
        by_reference = {_reference(secret, vault): secret for secret in stored}
        given = document.get(key)
        if isinstance(given, list):
            document[key] = [by_reference.get(item, item) if isinstance(item, str) else item for item in given]
