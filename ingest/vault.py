"""Signing secrets at rest: encrypted with a key from a file that only its owner can read.

AES-SIV (RFC 5297): authenticated, and the same secret always gives the same text, so that a catalog that is imported
again changes nothing.
"""

from __future__ import annotations

import os
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

PREFIX: Final = "enc:"
"""What an encrypted secret begins with."""
KEY_BYTES: Final = 64
SIGNING: Final = b"postback signing secret"
SESSION: Final = b"postback console session"
_DATA: Final = b"postback data"
"""What a text is sealed for: sealed for one, it cannot be opened as the other."""


class VaultError(Exception):
    """The key cannot be read or made, or a secret cannot be opened with it; the message says what to do."""


class Vault:
    """Seals with the first key, opens with any: so keys can be changed one after the other."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV  # noqa: PLC0415  commands start without it

        self._ciphers = [AESSIV(key) for key in keys]
        self._by_id = {_key_id(key): cipher for key, cipher in zip(keys, self._ciphers, strict=True)}

    @property
    def key_ids(self) -> tuple[str, ...]:
        """What names each key and tells nothing about it; first the one that seals."""
        return tuple(self._by_id)

    def seal(self, secret: str, purpose: bytes = SIGNING) -> str:
        """The secret as it is stored: `enc:<base64url>`."""
        return PREFIX + urlsafe_b64encode(self._ciphers[0].encrypt(secret.encode(), [purpose])).decode()

    def open(self, sealed: str, purpose: bytes = SIGNING) -> str:
        """What was sealed for this purpose. Raises VaultError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  as above

        try:
            data = urlsafe_b64decode(sealed.removeprefix(PREFIX).encode("ascii"))
        except ValueError:
            raise VaultError("not what an export writes: the encrypted secret is damaged") from None
        for cipher in self._ciphers:
            try:
                return cipher.decrypt(data, [purpose]).decode()
            except (InvalidTag, ValueError):
                continue
        raise VaultError("was encrypted with another key: this machine needs the same admin.secret_key_file")

    def seal_data(self, data: bytes, about: bytes) -> bytes:
        """The data, which may not be empty, so that it is opened only as being `about` the same."""
        return self._ciphers[0].encrypt(data, [_DATA, about])

    def open_data(self, sealed: bytes, about: bytes, key_id: str) -> bytes:
        """What was sealed with the key of that id. Raises VaultError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415  as above

        cipher = self._by_id.get(key_id)
        if cipher is None:
            raise VaultError("was encrypted with another key: this machine needs the same admin.secret_key_file")
        try:
            return cipher.decrypt(sealed, [_DATA, about])
        except (InvalidTag, ValueError):
            raise VaultError("the encrypted data is damaged") from None


def _key_id(key: bytes) -> str:
    return blake2b(key, digest_size=8, person=b"postback key id").hexdigest()


def ensure_vault(path: Path) -> Vault:
    """The keys in `path`, one a line; made if there is no such file. Raises VaultError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _make(path)
        lines = path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError) as error:
        raise VaultError(f"admin.secret_key_file: {path}: {error}") from None
    try:
        keys = [urlsafe_b64decode(line) for line in lines]
    except ValueError:
        keys = []
    if not keys or any(len(key) != KEY_BYTES for key in keys):
        raise VaultError(
            f"admin.secret_key_file: {path}: expected keys of {KEY_BYTES} bytes in base64url, one a line; put back the"
            " file of before: without it the signing secrets in the catalog cannot be read"
        )
    return Vault(keys)


def _make(path: Path) -> None:
    """Whole or not at all, and never over another: two processes may start at once."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(urlsafe_b64encode(os.urandom(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(name, path)
    except FileExistsError:
        return
    finally:
        Path(name).unlink()
