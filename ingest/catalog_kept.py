"""The last good catalog on disk: a receiver starts with it while Postgres is away."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Final

import msgspec

from ingest.whole_file import whole_file
from storage.rows import CatalogRows

_HEADER: Final = b"postback catalog 2\n"
_READABLE: Final = (_HEADER, b"postback catalog 1\n")
"""The earlier one knew no statuses, approvals and caps: there were none."""
_DIGEST_BYTES: Final = 16


def encode_rows(rows: CatalogRows) -> bytes:
    """The rows as they are kept on disk: a line with the format's version, a digest, msgpack."""
    body = msgspec.msgpack.encode(rows)
    return _HEADER + blake2b(body, digest_size=_DIGEST_BYTES).digest() + body


def decode_rows(data: bytes) -> CatalogRows:
    """The inverse of `encode_rows`. Raises ValueError for anything else, and for what another version wrote."""
    if not data.startswith(_READABLE):
        raise ValueError("not a catalog of this version")
    start = len(_HEADER) + _DIGEST_BYTES
    digest, body = data[len(_HEADER) : start], data[start:]
    if blake2b(body, digest_size=_DIGEST_BYTES).digest() != digest:
        raise ValueError("damaged")
    return msgspec.msgpack.decode(body, type=CatalogRows)


def keep_rows(path: Path, rows: CatalogRows) -> None:
    """Write the rows to `path`, readable by the owner only, in one step: a reader sees the old file or the new one."""
    with whole_file(path) as file:
        file.write(encode_rows(rows))


def kept_path(data_dir: Path) -> Path:
    """Where the receivers of a data folder keep it."""
    return data_dir / "catalog.snapshot"


def is_kept(path: Path) -> bool:
    """Whether there is one to start with."""
    try:
        kept_rows(path)
    except (OSError, ValueError):
        return False
    return True


def kept_rows(path: Path) -> CatalogRows:
    """What `keep_rows` wrote. Raises FileNotFoundError, OSError, or ValueError for a file that cannot be used."""
    return decode_rows(path.read_bytes())
