"""Macros that a sender's template engine left unexpanded: `{txn_id}` in a value means that there is no value."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

MACRO_OPENERS: Final = "{[<$%("
"""A value that starts with none of these and is none of MACRO_WORDS is no macro."""

MACRO_WORDS: Final = frozenset(
    {"null", "Null", "NULL", "undefined", "Undefined", "UNDEFINED"}
    | {"CLICK_ID", "CLICKID", "TRANSACTION_ID", "TXN_ID", "TXID", "ORDER_ID", "ACTION_ID"}
    | {"SALE_AMOUNT", "GOAL_VALUE", "EVENT_ID", "EVENT_TIME", "SECURITY_TOKEN"}
)
"""Words that stand for no value. Generic ones (GOAL, AMOUNT, STATUS, ...) are left out: they may be meant."""

# The name inside: dashes are excluded, so that a GUID in braces is a value, and so are 16 or more hex digits.
_NAME = r"(?![0-9A-Fa-f]{16,}[^A-Za-z0-9_.:|])[A-Za-z_][A-Za-z0-9_.:|]{0,63}"
_MACRO = re.compile(
    "|".join(
        opening + _NAME + closing
        for opening, closing in (
            (r"\$?\{", r"\}"),
            (r"\{\{", r"\}\}"),
            (r"\[", r"\]"),
            (r"\[\[", r"\]\]"),
            ("<", ">"),
            ("%", "%"),
            ("%%", "%%"),
        )
    )
    # FreeMarker with a default: ${(event_data.revenue)!}
    + r"|\$\{\([A-Za-z_][A-Za-z0-9_.~$+]{0,80}\)!\}"
    # With an argument: {cl?Some Network}
    + r"|\{[a-z]{1,16}\?[^{}?]{1,64}\}"
    # In parentheses only these, since values may stand in them.
    + r"|\((?:clickid|click-id|event-name|event-value|monetary|orig-monetary|currency|timestamp|mapped-iae)\)"
)
_LONGEST = 100


def is_macro(text: str) -> bool:
    """Whether the trimmed value is an unexpanded macro, also one that is still percent-encoded (`%7Btxn_id%7D`)."""
    if text in MACRO_WORDS:
        return True
    if len(text) > _LONGEST:
        return False
    return _MACRO.fullmatch(text) is not None or ("%" in text and _MACRO.fullmatch(unquote(text)) is not None)
