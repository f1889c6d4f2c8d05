"""Postbacks signed as a sender would: written from docs/security.md, not with the product's own code."""

from __future__ import annotations

import hashlib
import hmac
from urllib.parse import quote

SECRET = "a-secret-of-the-tests-1"
OTHER_SECRET = "a-secret-of-the-tests-2"


def header(
    t: int,
    query: str = "",
    *,
    secret: str = SECRET,
    route: str = "postback",
    key: str = "",
    media_type: str = "",
    body: bytes = b"",
) -> str:
    """The value of X-Postback-Signature."""
    digest = hashlib.sha256(body).hexdigest() if body else ""
    message = "\n".join([route, str(t), query, key, media_type if body else "", digest])
    return f"t={t},v1={hmac.new(secret.encode(), message.encode(), 'sha256').hexdigest()}"


def parameters(t: int, sent: dict[str, str], *, secret: str = SECRET) -> dict[str, str]:
    """The same parameters with `timestamp` and `signature`."""
    signed = sent | {"timestamp": str(t)}
    message = "&".join(
        f"{name}={value}" for name, value in sorted((quote(n, safe=""), quote(v, safe="")) for n, v in signed.items())
    )
    return signed | {"signature": hmac.new(secret.encode(), message.encode(), "sha256").hexdigest()}
