"""Text that can be stored: valid Unicode, no control characters, bounded in bytes."""

from __future__ import annotations

import re
from typing import Final

BLANKS: Final = " \t\r\n\v\f"
"""What is trimmed off values."""

REPLACEMENT: Final = "\ufffd"

# Lone surrogates stand for bytes that were not valid UTF-8 (surrogateescape) or come from JSON escapes.
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def problem(text: str, limit_bytes: int) -> str | None:
    """Why the text cannot be stored as it is, None where it can."""
    if text.isascii():
        size = len(text)
    elif _SURROGATE.search(text):
        return "not valid UTF-8"
    else:
        size = len(text.encode())
    if size > limit_bytes:
        return f"longer than {limit_bytes} bytes"
    return "holds a control character" if _CONTROL.search(text) else None


def valid(text: str) -> str:
    """The text with lone surrogates replaced, so that it can be encoded."""
    return text if text.isascii() else _SURROGATE.sub(REPLACEMENT, text)


def clean(text: str, limit_bytes: int) -> tuple[str, bool]:
    """A copy that can be stored (what is unfit replaced by U+FFFD, cut at a character), and whether it was cut."""
    # Each character has at least one byte: nothing past the limit can stay, so it need not be looked at.
    data = _UNFIT.sub(REPLACEMENT, text[: limit_bytes + 1]).encode()
    if len(data) <= limit_bytes:
        return data.decode(), False
    return data[:limit_bytes].decode(errors="ignore"), True
