"""The admin key: made at the first start, in a file that only its owner can read."""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

_SCHEME = "bearer "


class AdminKeyError(Exception):
    """The key cannot be read or made; the message says what to do."""


class AdminKey:
    """Knows the key when it sees it."""

    def __init__(self, key: str) -> None:
        self._digest = digest_of(key)

    def has_digest(self, digest: bytes) -> bool:
        """Whether it is the key's, found in constant time."""
        return compare_digest(digest, self._digest)


def bearer(authorization: str | None) -> str | None:
    """The key in an Authorization header, None where there is none."""
    if authorization is None or authorization[: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[len(_SCHEME) :].strip()


def digest_of(key: str) -> bytes:
    """How a key is kept and compared: its SHA-256."""
    return sha256(key.encode("utf-8", "surrogateescape")).digest()


def ensure_admin_key(path: Path) -> str:
    """The key in `path`, made if there is none. Raises AdminKeyError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(32) + "\n")
            temporary.replace(path)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise AdminKeyError(f"admin.key_file: {path}: {error}") from None
    if len(key) < 16:
        raise AdminKeyError(f"admin.key_file: {path}: expected a key of 16 characters or more; remove it for a new one")
    return key
