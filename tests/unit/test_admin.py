"""The admin key and its file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ingest.admin import AdminKey, AdminKeyError, bearer, digest_of, ensure_admin_key

KEY = "k" * 43


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_key_is_made_for_its_owner_only(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "folders" / "admin.key"
    before = os.umask(umask)
    try:
        key = ensure_admin_key(path)
    finally:
        os.umask(before)
    assert mode_of(path) == 0o600
    assert path.read_text() == key + "\n"
    assert len(key) >= 43
    assert [file.name for file in path.parent.iterdir()] == ["admin.key"], "nothing is left beside it"


def test_the_key_stays(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    assert ensure_admin_key(path) == ensure_admin_key(path)
    assert ensure_admin_key(tmp_path / "other.key") != ensure_admin_key(path)


def test_a_key_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_text(f"  {KEY}\r\n")
    assert ensure_admin_key(path) == KEY


@pytest.mark.parametrize("content", [b"", b"\n", b"short", b"fifteen-letters", b" " * 40])
def test_a_short_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "admin.key"
    path.write_bytes(content)
    with pytest.raises(AdminKeyError) as refused:
        ensure_admin_key(path)
    said = str(refused.value)
    assert said == f"admin.key_file: {path}: expected a key of 16 characters or more; remove it for a new one"
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "admin.key"
    path.write_bytes(b"\xff" * 40)
    with pytest.raises(AdminKeyError, match=r"admin\.key_file"):
        ensure_admin_key(path)
    with pytest.raises(AdminKeyError, match=r"admin\.key_file"):
        ensure_admin_key(tmp_path)
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(AdminKeyError, match=r"admin\.key_file"):
        ensure_admin_key(blocked / "admin.key")


@pytest.mark.parametrize(
    ("header", "is_in"),
    [
        (f"Bearer {KEY}", True),
        (f"bearer {KEY}", True),
        (f"BEARER   {KEY}  ", True),
        (f"Bearer {KEY}x", False),
        (f"Bearer {KEY[1:]}", False),
        (f"Bearer {KEY.upper()}", False),
        (f"Bearer{KEY}", False),
        (f"Basic {KEY}", False),
        (KEY, False),
        ("Bearer ", False),
        ("Bearer", False),
        ("", False),
        ("Bearer \udcff\udcfe", False),
        ("Bearer ключ", False),
        (None, False),
    ],
)
def test_who_carries_the_key(header: str | None, is_in: bool) -> None:
    given = bearer(header)
    assert (given is not None and AdminKey(KEY).has_digest(digest_of(given))) is is_in


def test_the_key_is_not_shown() -> None:
    assert KEY not in repr(AdminKey(KEY))
    assert KEY not in repr(vars(AdminKey(KEY)))
