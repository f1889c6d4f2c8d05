"""Signing secrets at rest, and their way through the catalog file."""

from __future__ import annotations

import os
import re
import threading
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from ingest.catalog_file import CatalogError, parse_catalog
from ingest.catalog_rows import build_snapshot
from ingest.catalog_toml import format_catalog
from ingest.signatures import WINDOW_MS
from ingest.vault import KEY_BYTES, Vault, VaultError, ensure_vault
from storage.rows import AdvertiserRow, CampaignRow, CatalogRows

SECRET = "a-secret-of-the-tests"
KEY = bytes(range(KEY_BYTES))
VAULT = Vault([KEY])
OTHER = Vault([bytes(KEY_BYTES)])


def line(key: bytes) -> str:
    return urlsafe_b64encode(key).decode()


def test_what_is_sealed_can_be_opened_and_says_nothing() -> None:
    sealed = VAULT.seal(SECRET)
    assert re.fullmatch(r"enc:[A-Za-z0-9_=-]+", sealed)
    assert SECRET not in sealed
    assert VAULT.open(sealed) == SECRET
    assert VAULT.seal(SECRET) == sealed, "an import of the same again changes nothing"
    assert VAULT.open(VAULT.seal("ü" * 100)) == "ü" * 100


def test_another_key_does_not_open_it_nor_is_damage_overlooked() -> None:
    sealed = VAULT.seal(SECRET)
    with pytest.raises(VaultError, match=r"admin\.secret_key_file"):
        OTHER.open(sealed)
    for damaged in (sealed[:-4], sealed[:-1], "enc:", "enc:AAAA", sealed[:4] + "B" + sealed[5:], "enc:ü"):
        with pytest.raises(VaultError) as caught:
            VAULT.open(damaged)
        assert SECRET not in str(caught.value)


def test_the_first_key_seals_and_all_open() -> None:
    both = Vault([bytes(KEY_BYTES), KEY])
    assert both.open(VAULT.seal(SECRET)) == SECRET
    assert OTHER.open(both.seal(SECRET)) == SECRET


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "secret.key"
    before = os.umask(0)
    try:
        sealed = ensure_vault(path).seal(SECRET)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert ensure_vault(path).open(sealed) == SECRET
    assert list(path.parent.iterdir()) == [path]


def test_many_may_start_at_once(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    sealed: list[str] = []
    barrier = threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        sealed.append(ensure_vault(path).seal(SECRET))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sealed) == 8
    assert len(set(sealed)) == 1


@pytest.mark.parametrize("text", ["", "short", line(KEY)[:-4], "ü", line(KEY) + "\nshort\n"])
def test_a_key_file_that_cannot_be_used_is_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret.key"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(VaultError, match=r"admin\.secret_key_file") as caught:
        ensure_vault(path)
    assert str(path) in str(caught.value)
    assert line(KEY)[:20] not in str(caught.value)
    assert path.read_text(encoding="utf-8") == text


def test_several_lines_are_several_keys(tmp_path: Path) -> None:
    path = tmp_path / "secret.key"
    path.write_text(f"{line(bytes(KEY_BYTES))}\n{line(KEY)}\n")
    vault = ensure_vault(path)
    assert vault.open(VAULT.seal(SECRET)) == SECRET
    assert OTHER.open(vault.seal(SECRET)) == SECRET


# The catalog file ----------------------------------------------------------------------------------------------------


def file(lines: str) -> str:
    return f'[[advertisers]]\nid = 1\nname = "A"\n{lines}\n'


def row(lines: str, vault: Vault | None = VAULT) -> AdvertiserRow:
    (found,) = parse_catalog(file(lines), vault).rows.advertisers
    return found


def test_every_key_is_read() -> None:
    found = row(
        f'signing_secrets = ["{SECRET}", "{SECRET}-2"]\nsignature_window = "90s"\nrate_limit = 500\n'
        'allowed_addresses = ["203.0.113.0/24", "192.0.2.1", "2001:DB8:0::7"]'
    )
    assert [VAULT.open(sealed) for sealed in found.signing_secrets] == [SECRET, f"{SECRET}-2"]
    assert found.signature_window_ms == 90_000
    assert found.rate_limit == 500
    assert found.allowed_addresses == ("203.0.113.0/24", "192.0.2.1/32", "2001:db8::7/128")
    assert row("") == AdvertiserRow(1, "A")


def test_what_is_written_is_read_back() -> None:
    found = row(
        f'signing_secrets = ["{SECRET}"]\nsignature_window = "5m"\nrate_limit = 1\nallowed_addresses = ["::/0"]'
    )
    text = format_catalog(CatalogRows(advertisers=(found,)))
    assert SECRET not in text
    assert parse_catalog(text, VAULT).rows.advertisers == (found,)
    with pytest.raises(CatalogError, match=r"admin\.secret_key_file"):
        parse_catalog(text, OTHER)
    rotated = Vault([bytes(KEY_BYTES), KEY])
    (anew,) = parse_catalog(text, rotated).rows.advertisers
    assert anew.signing_secrets == (OTHER.seal(SECRET),), "encrypted with the new key"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (f'signing_secrets = "{SECRET}"', "signing_secrets: expected a list in brackets"),
        (
            'signing_secrets = ["too short"]',
            "signing_secrets: item 0: shorter than 16 characters; make one with: openssl",
        ),
        (f'signing_secrets = ["{SECRET}", "{SECRET}"]', "signing_secrets: names something twice"),
        (f'signing_secrets = ["{SECRET}1", "{SECRET}2", "{SECRET}3"]', "signing_secrets: more than 2"),
        ('signing_secrets = ["enc:AAAA"]', "signing_secrets: item 0: was encrypted with another key"),
        ('signing_secrets = ["enc:AAA"]', "signing_secrets: item 0: not what an export writes"),
        ("signing_secrets = [1]", "signing_secrets: item 0: expected a text"),
        ('signature_window = "0s"', "signature_window: must be longer than 0"),
        ("signature_window = 300", "signature_window: expected a duration"),
        ('allowed_addresses = "10.0.0.1"', "allowed_addresses: expected a list"),
        ('allowed_addresses = ["10.0.0.1/8"]', "allowed_addresses: item 0: expected an address or a network"),
        ('allowed_addresses = ["example.com"]', "allowed_addresses: item 0: expected an address or a network"),
        ('allowed_addresses = ["fe80::1%eth0"]', "allowed_addresses: item 0: expected an address or a network"),
        ('allowed_addresses = ["::ffff:10.0.0.1"]', "allowed_addresses: item 0: is IPv4 written as IPv6"),
        ('allowed_addresses = ["10.0.0.1", "10.0.0.1/32"]', "allowed_addresses: names something twice"),
        ("allowed_addresses = [1]", "allowed_addresses: item 0: expected an address or a network"),
        (
            f"allowed_addresses = {[f'10.0.{n}.1' for n in range(256)] + ['1.1.1.1']}",
            "allowed_addresses: more than 256",
        ),
        ("rate_limit = 0", "rate_limit: expected postbacks a second"),
        ('rate_limit = "5"', "rate_limit: expected postbacks a second"),
        ("rate_limit = true", "rate_limit: expected postbacks a second"),
        ("rate_limit = 1.5", "rate_limit: expected postbacks a second"),
    ],
)
def test_a_mistake_is_named_and_no_secret_shown(lines: str, problem: str) -> None:
    with pytest.raises(CatalogError) as caught:
        row(lines)
    (said,) = caught.value.problems
    assert said.startswith(f"advertisers[0].{problem}")
    assert SECRET not in said
    assert "too short" not in said


def test_without_a_key_nothing_is_sealed() -> None:
    with pytest.raises(CatalogError, match="there is no key"):
        row(f'signing_secrets = ["{SECRET}"]', None)


# The snapshot --------------------------------------------------------------------------------------------------------


def snapshot_rows(advertiser: AdvertiserRow) -> CatalogRows:
    return CatalogRows(advertisers=(advertiser,), campaigns=(CampaignRow(100, 1, "C", "USD"),))


def test_receivers_get_the_secrets_in_the_clear() -> None:
    rows = snapshot_rows(row(f'signing_secrets = ["{SECRET}"]\nallowed_addresses = ["192.0.2.0/24"]\nrate_limit = 7'))
    advertiser = build_snapshot(rows, VAULT).campaigns[100].advertiser
    assert advertiser.signing_keys == (SECRET.encode(),)
    assert advertiser.signature_window_ms == WINDOW_MS
    assert [str(network) for network in advertiser.allowed_networks] == ["192.0.2.0/24"]
    assert advertiser.rate_limit == 7
    assert build_snapshot(rows, VAULT).secret_names == {"signature"}


@pytest.mark.parametrize("vault", [None, OTHER])
def test_a_secret_that_cannot_be_opened_is_never_taken_for_none(vault: Vault | None) -> None:
    rows = snapshot_rows(row(f'signing_secrets = ["{SECRET}"]'))
    with pytest.raises(VaultError, match=r"advertiser 1 \(A\): a signing secret ") as caught:
        build_snapshot(rows, vault)
    assert SECRET not in str(caught.value)
