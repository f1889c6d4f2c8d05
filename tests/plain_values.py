"""Values that postbacks and packed clicks may hold, from the plain to the hostile."""

from __future__ import annotations

from typing import Final

from ingest.catalog import Cap, CapAction, CapMeasure, CapPeriod
from ingest.macros import MACRO_WORDS

WINDOW_MS: Final = 5000
MIN_AGE_MS: Final = 500
TOKENS: Final = ("current-secret", "previous-secret")
CLICK_IDS: Final = ("c1", "c2", "c3", "GPA.1234-5678", "x" * 255)
CAP: Final = Cap(None, None, False, CapMeasure.CONVERSIONS, CapPeriod.DAY, 5, CapAction.PENDING)
OWN_NAMES: Final = (
    "order", "total", "lead_ref", "shop_key", "my.event", "cur", "when", "state", "evt-id", "cid", "amount", "txn_id",
    "sub1", "{name}", "ключ", "a b", "signature", "q" * 64,
)  # fmt: skip
"""What advertisers call things: also by names that are standard for something else, and by odd ones."""
PARAM_NAMES: Final = (
    "sub1", "sub2", "city", "ip", "user_agent", "_dropped", "_cut", "signature", "timestamp", "a-b", "~x", "x|y",
    "[z]", "{m}", "%7Bm%7D", "$", "'", "p" * 64, "p" * 65, "b" * 300, "null", "Goal", "CLICK_ID", "город", "a b",
    " a", "a\tb", 'q"q', "back\\slash", "a&b", "a=b", "a+b", "a%b", "", "\x00", "\x7f", "\u2028", "\udcff",
    "event_id", "click_id",
)  # fmt: skip
MACROS: Final = (
    "{txn_id}", "${txn_id}", "{{txn_id}}", "[txn_id]", "[[txn_id]]", "<txn_id>", "%txn_id%", "%%txn_id%%",
    "%7Btxn_id%7D", "${(event_data.revenue)!}", "{cl?Some Network}", "(clickid)", "(currency)",
    "{0123456789abcdef0123}", "{a-b}", "{", "%", "$5", "(x)", "<", "[]",
)  # fmt: skip
WORDS: Final = tuple(
    sorted({spell(word) for word in MACRO_WORDS for spell in (str, str.lower, str.upper, str.title, str.swapcase)})
)
ODD_VALUES: Final = (
    "", " ", "+", " a", "a ", "\ta", "a\n", "a\r\nb", "a\tb", "a\x00b", "\x1f", "\x7f", "\x80", "\xa0", "\xad",
    "\u2028", "\ufeff", "ß", "München", "日本語", "👍🏽", "\ud800", "\udcff", "a\udc80", "\\", "\\N", "\\.", '"', 'a"b',
    "'", "a,b", "a&b", "a=b", "a%b", "100%", "a+b", "a b", "null ", "x" * 254, "x" * 255, "x" * 256, "x" * 1024,
    "x" * 1025, "ü" * 127, "ü" * 128, "ü" * 512, "\\" * 255,
)  # fmt: skip
RAW_VALUES: Final = (
    "%", "%%", "%4", "%zz", "%4g", "%41", "%c3%bc", "%C3%BC", "%c3", "%ff", "%ED%A0%80", "%00", "%0a", "%7f",
    "%C2%85", "%26", "%3D", "%2B", "%25", "%2541", "%22", "%5C", "+", "a+b", "+a", "a=b", "=", "%e2%80%a8",
    "%F0%9F%91%8D", "%20", "%7Btxn_id%7D", "{txn_id}", "%1", "a%", "%41%", "%01", "%02", "%0d%0a", '"', "\\",
)  # fmt: skip
"""As they may stand in a query."""
RAW_JSON: Final = (
    b"", b"{", b"}", b'"', b"\\", b":", b",", b" ", b"\t", b"\r", b"[", b"]", b"1", b"null", b"true", b"\\u0041",
    b"\\n", b'\\"', b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc3", b"\xc3\xbc", b"\xed\xa0\x80", b"\xef\xbb\xbf",
    b"\xe2\x80\xa8", b'"a":"b",', b',"a":1', b',"a":{}', b',"":""', b"%", b"+", b"'", b"}{", b"//", b"\\ud800",
    b'"\xc3\xa9":"b",', b"\x0b", b"\xc2\xa0",
)  # fmt: skip
"""As they may stand in a line of JSON."""

AMOUNTS: Final = (
    "1", "01", "00000001", ".5", "5.", ".", "1.0000000", "1.0000001", "1.000000", "1e3", "1E3", "0", "0.0",
    "0.000001", "0.0000005", "999999999999", "999999999999.999999", "1000000000000", "0999999999999", "000000000000",
    "0000000000000", "123456789012.5", "1234567890123.5", "12.50", "1,5", "-1", "+1", "1 ", "1.2.3", "0x10", "٣",
    "१२", "²", "NaN", "inf", "1_0", "999999999999.9999990", "500000000000", "1.1.", "1.a", "a.1", "19.99",
)  # fmt: skip
CURRENCIES: Final = (
    "USD", "usd", "UsD", "USN", "USX", "EUR", "eur", "GBP", "JPY", "XYZ", "US", "USDD", "???", "U$D", "ÜSD", "ſek",
    "\u212aRW", "123",
)  # fmt: skip
TIMES: Final = (
    "1790000000", "1790000000123", "0", "946684799", "946684800", "946684800000", "946684799999", "0946684800",
    "4133980799", "4133980800", "4133980799999", "4133980800000", "9999999999", "9999999999999", "99999999999",
    "100000000000", "12345678901", "123456789012", "0000000000000", "0001790000000", "1790000000.5", "1790000000.",
    "1790000000.1234567", "17900000.5", "179000000x", "179000000000x", "2026-11-01T12:00:00Z", "2026-11-01T12:00:00",
    "2026-11-01T12:00:00+02:00", "2026-11-01 12:00:00", "1999-12-31T23:59:59Z", "2000-01-01T00:00:00Z",
    "2100-12-31T23:59:60Z", "2026-02-30T00:00:00Z", "tomorrow", "١٧٩٠٠٠٠٠٠٠", "-1790000000", "1790000000000000",
)  # fmt: skip
STATUSES: Final = (
    "approved", "pending", "rejected", "cancelled", "APPROVED", "Pending", "canceled", "held=1", "=approved",
    "approved|", "ok",
)  # fmt: skip
GOALS: Final = ("install", "Sale", "größe", "ß", "back\\slash", 'quo"te', "late")
SAID_GOALS: Final = (
    "install", "INSTALL", "InStall", "sale", "SALE", "größe", "GRÖSSE", "ss", "SS", "ß", "ſale", "back\\slash",
    'quo"te', "late", "other", "\u212a",
)  # fmt: skip
NANOS: Final = (1_085_000_000, 1, 333_333_333, 10**18 - 1)
PACKED: Final = (
    b"100,10,1790000000000,", b"100,10,1790000000000,US,", b"100,10,1790000000000", b"100,10,1790000000000,us",
    b"-100,10,1790000000000,US", b"100,-10,1790000000000,US", b"100,10,-1790000000000,US",
    b" 100,10,1790000000000,US", b"100,1_0,1790000000000,US", b"0100,010,01790000000000,US",
    b"100,10,1790000000000,U", b"100,10,1790000000000,USA", b"100,10,1790000000000,\xff\xff",
    b"100,10,1790000000000,\xc3\x9c", b"100,10,1790000000000,\\N", b"100,10,1790000000000,\t\t",
    b"100,9223372036854775807,1790000000000,US", b"100,9999999999999999999999,1790000000000,US",
    b"9223372036854775807,10,1790000000000,US", b"100,70368744177663,1790000000000,US",
    b"100,70368744177664,1790000000000,US", b"100,999999999999999999,1790000000000,US",
    b"100,1000000000000000000,1790000000000,US", b"100,10,281474976710655,US", b"100,10,281474976710656,US",
    b"100,10,999999999999999999,US", b"100,10,9999999999999999999,US",
    b"000000000000000000000000100,10,1790000000000,US", b"100,10,1.5,US", b",,,", b"", b"100", b"nonsense",
    b"100,10,0,US", b"100,10,1790000000000,\x00\x00", b"100,10,1790000000000,A\xd0", b"100,10,1790000000000,[[",
)  # fmt: skip
ADDRESSES: Final = (None, "192.0.2.7", "203.0.113.255", "2001:db8::1", "2001:db8:1:2:3:4:5:6", "::1")
