"""What a publisher can check: that a postback is ours. docs/outbound.md has the rules. Pure."""

from __future__ import annotations

from hashlib import sha256
from hmac import digest
from secrets import token_urlsafe
from typing import Final

from ingest.signatures import HEADER

SECRET_BYTES: Final = 32
OUTBOUND: Final = b"postback outbound secret"
"""What a publisher's secret is sealed for; see `ingest.vault`."""


def new_secret() -> str:
    """A secret for one publisher."""
    return token_urlsafe(SECRET_BYTES)


def signature(secret: str, method: str, target: str, conversion_id: str, body: bytes, now_s: int) -> tuple[str, str]:
    """(name, value) of the header. `target`: path and query as they are sent."""
    lines = (method, str(now_s), target, conversion_id, sha256(body).hexdigest() if body else "")
    return HEADER, f"t={now_s},v1={digest(secret.encode(), chr(10).join(lines).encode(), 'sha256').hex()}"
