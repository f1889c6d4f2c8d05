"""Signed postbacks: what a signature covers, and whether it is right. docs/security.md has the rules. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest, digest
from typing import Final
from urllib.parse import quote_from_bytes

from ingest.bodies import Nested, Pairs

HEADER: Final = "X-Postback-Signature"
PARAMETER: Final = "signature"
TIME_PARAMETER: Final = "timestamp"
WINDOW_MS: Final = 300_000
"""How far a signature's time may be from when it was received, where the advertiser sets nothing."""
MAX_SIGNATURES: Final = 4
"""Signatures of one header that are looked at."""

_UNRESERVED: Final = re.compile(r"[A-Za-z0-9._~-]*")


class Route(StrEnum):
    """Which of the two routes a request is for: a signature for one is none for the other."""

    ONE = "postback"
    BULK = "postbacks"


@dataclass(frozen=True, slots=True)
class Signed:
    """What came signed: the bytes that are covered, and the signatures given, none where they cannot be read."""

    message: bytes
    signatures: tuple[bytes, ...]
    timestamp_s: int


def signed_request(
    header: str, route: Route, query: str, idempotency_key: str | None, media_type: str, body: bytes
) -> Signed:
    """What the header `t=<epoch seconds>,v1=<hex>` signs; `query` and `body` as they were sent."""
    timestamp_s = 0
    signatures: list[bytes] = []
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            timestamp_s = _seconds(value)
        elif name == "v1" and len(signatures) < MAX_SIGNATURES:
            signatures += _signature(value)
    lines = (
        route.value,
        str(timestamp_s),
        query,
        idempotency_key or "",
        media_type if body else "",
        sha256(body).hexdigest() if body else "",
    )
    return Signed("\n".join(lines).encode("utf-8", "surrogateescape"), tuple(signatures), timestamp_s)


def signed_parameters(pairs: Pairs, idempotency_key: str | None) -> Signed | None:
    """What the parameters `timestamp` and `signature` sign: all others. None where there is no signature.

    Nested values have no spelling that both sides would agree on, and the header Idempotency-Key is no parameter:
    neither can be signed so.
    """
    given = [value for name, value in pairs if name == PARAMETER]
    if not given:
        return None
    times = [value for name, value in pairs if name == TIME_PARAMETER]
    if len(given) != 1 or len(times) != 1 or idempotency_key or any(isinstance(value, Nested) for _, value in pairs):
        return Signed(b"", (), 0)
    try:
        covered = [(_quoted(name), _quoted(value)) for name, value in pairs if name != PARAMETER]
    except UnicodeEncodeError:
        return Signed(b"", (), 0)
    covered.sort(key=lambda pair: pair[0])  # stable: those of one name stay as they came
    message = "&".join(f"{name}={value}" for name, value in covered).encode()
    return Signed(message, _signature(given[0]), _seconds(times[0]))


def problem(signed: Signed | None, keys: Sequence[bytes], received_ms: int, window_ms: int) -> str | None:
    """Why a signature does not count, for the sender; None if it does. `keys` are the live secrets."""
    if signed is None:
        return "signature: missing"
    if not signed.signatures or not signed.timestamp_s:
        return "signature: cannot be read"
    age_ms = received_ms - signed.timestamp_s * 1000
    if age_ms > window_ms:
        return "signature: too old"
    if age_ms < -window_ms:
        return "signature: its time is in the future"
    # Every live secret is tried, whichever matches: the time tells nothing.
    expected = [digest(key, signed.message, "sha256") for key in keys]
    if sum(compare_digest(given, right) for given in signed.signatures for right in expected) == 0:
        return "signature: not accepted"
    return None


def _seconds(text: str) -> int:
    """Epoch seconds; 0 for anything else."""
    return int(text) if len(text) <= 12 and text.isascii() and text.isdecimal() else 0


def _signature(text: str) -> tuple[bytes, ...]:
    """One SHA-256 in hex; none for anything else."""
    if len(text) != 64 or not text.isascii() or not text.isalnum():
        return ()
    try:
        return (bytes.fromhex(text),)
    except ValueError:
        return ()


def _quoted(text: str) -> str:
    """Percent-encoded but for letters, digits and `-._~` (RFC 3986, 2.3)."""
    if _UNRESERVED.fullmatch(text):
        return text
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="")
