"""SQL stands in files: `storage/sql/<file>.sql`, in blocks that each open with a line `-- name: <query>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

FOLDER: Final = Path(__file__).parent / "sql"
_NAME: Final = re.compile(r"^-- name: *(\S+) *$", re.MULTILINE)


@cache
def queries(file: str) -> Mapping[str, str]:
    """The queries of `storage/sql/<file>.sql` by name. Read once; `preload` does that where waiting for a disk matters.

    What stands before the first name is the file's header.
    """
    _, *parts = _NAME.split((FOLDER / f"{file}.sql").read_text(encoding="utf-8"))
    names, texts = parts[::2], parts[1::2]
    if len(set(names)) != len(names):
        raise ValueError(f"storage/sql/{file}.sql: two queries have the same name")
    return MappingProxyType(dict(zip(names, (text.strip() for text in texts), strict=True)))


def preload() -> None:
    """Read every file, so that no query waits for the disk in the event loop."""
    for path in FOLDER.glob("*.sql"):
        queries(path.stem)
