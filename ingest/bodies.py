"""Queries and bodies as name/value pairs, before anybody knows what the names mean."""

from __future__ import annotations

import re
from binascii import a2b_hex, a2b_qp
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from json import JSONDecodeError, JSONDecoder
from json.encoder import encode_basestring
from typing import Final, cast

import orjson

from ingest.reasons import Reason
from ingest.text import clean, valid

MAX_ITEMS: Final = 10_000
"""Most items of a bulk body."""

Pairs = list[tuple[str, str]]
"""Decoded names and values in order. A byte that is not valid UTF-8 is a lone surrogate; a JSON object or array
is a `Nested`."""
Fields = dict[str, str]
"""The same in which no name comes twice and nothing is a `Nested`."""
Sent = Pairs | Fields


class Nested(str):
    """A JSON object or array, as compact JSON text."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a postback: `detail` names the field and what was wrong with it."""

    reason: Reason
    detail: str


def together(first: Sent, second: Sent) -> Sent:
    """Both, in order."""
    if not first or not second:
        return first or second
    return pairs_of(first) + pairs_of(second)


def plain(pairs: Pairs) -> Sent:
    """The pairs, as Fields where they can be."""
    fields = dict(pairs)
    if len(fields) < len(pairs) or any(isinstance(value, Nested) for value in fields.values()):
        return pairs
    return fields


def pairs_of(sent: Sent) -> Pairs:
    """The pairs, however they are kept."""
    return list(sent.items()) if isinstance(sent, dict) else sent


class UnreadableError(Exception):
    """The request cannot be read as a postback at all; `status` is the HTTP status (400, 408, 413, 415 or 501)."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.fault = Fault(Reason.BAD_PARAMETER, detail)


# Queries and forms -----------------------------------------------------------------------------------------------

_FORM = "application/x-www-form-urlencoded"
_EQUALS: Final = "\x01"
_EQUALS_BYTE: Final = _EQUALS.encode()
_NEXT: Final = "\x02"
_NEXT_BYTE: Final = _NEXT.encode()
_PART: Final = 32
"""Queries that are tried together where a whole batch cannot be: one may be the only one to blame."""
_ESCAPES = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")


def read_query(raw: bytes | str) -> Pairs:
    """The pairs of a raw query string or form: '+' is a blank, what is no percent-escape stays as it is."""
    text = raw if isinstance(raw, str) else raw.decode("utf-8", "surrogateescape")
    pieces = [piece.partition("=") for piece in text.replace("+", " ").split("&") if piece]
    return [(_unquote(name), _unquote(value)) for name, _, value in pieces]


def read_fields(text: str) -> Sent:
    """What `read_query` says, as Fields where it can be."""
    return read_queries([text])[0] if text.isascii() and text.isprintable() else plain(read_query(text))


def read_queries(queries: Sequence[str]) -> list[Sent]:
    """What `read_query` says of each, of queries in printable ASCII: all at once, at a third of the price."""
    if not queries:
        return []
    found = _read_together(queries)
    if found is not None:
        return found
    if len(queries) <= _PART:
        return [plain(read_query(query)) for query in queries]
    return [sent for at in range(0, len(queries), _PART) for sent in read_queries(queries[at : at + _PART])]


def _read_together(queries: Sequence[str]) -> list[Sent] | None:
    """None where some cannot be Fields, or cannot be read like this: decoded, queries of pairs are JSON but for the
    spelling of separators, and a piece that is no pair makes no JSON."""
    data = _unquote_all(_NEXT.join(queries).replace("+", " "))
    if data is None or data.count(_NEXT_BYTE) != len(queries) - 1:
        return None
    pairs = data.count(_EQUALS_BYTE)
    data = data.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    data = data.replace(_EQUALS_BYTE, b'":"').replace(b"&", b'","').replace(_NEXT_BYTE, b'"},{"')
    try:
        found: list[Sent] = orjson.loads(b'[{"%b"}]' % data)
    except orjson.JSONDecodeError:
        return None
    return found if sum(map(len, found)) == pairs else None  # else some name comes twice


def _unquote_all(text: str) -> bytes | None:
    """Queries decoded at once, their "=" replaced by _EQUALS. None where that cannot be: something is no escape, or an
    escape stands for a separator.

    The decoder is that of quoted-printable, which is written in C and differs in its sign, "=", and in that the sign
    before the end of a line joins lines: here there are none.
    """
    quoted = text.replace("=", _EQUALS).replace("%", "=").encode("ascii")
    data = a2b_qp(quoted)
    if len(data) + 2 * text.count("%") != len(quoted):  # not every sign was that of an escape
        return None
    if data.count(b"&") != text.count("&") or data.count(_EQUALS_BYTE) != text.count("="):
        return None
    return data


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    data = _ESCAPES.sub(_decode_escapes, text.encode("utf-8", "surrogateescape"))
    return data.decode("utf-8", "surrogateescape")


def _decode_escapes(match: re.Match[bytes]) -> bytes:
    return a2b_hex(match[0].replace(b"%", b""))


# JSON ------------------------------------------------------------------------------------------------------------

_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "text/x-ndjson"})


class _Number(str):
    """A JSON number's own text."""

    __slots__ = ()


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


# The standard library's decoder, since it alone shows a name that is given twice and keeps each number's text.
# An object becomes a tuple of pairs, an array a list.
_JSON = JSONDecoder(object_pairs_hook=tuple, parse_float=_Number, parse_int=_Number, parse_constant=_refuse_constant)


_BLANK_COLONS: Final = re.compile(rb"[ \t\n\r]:")


def _flat(data: bytes) -> list[Fields] | None:
    """The objects of an array that hold texts alone and no name twice, at a third of what `_JSON` takes; None where
    that is not certain.

    Each of their pairs has `":` between name and value: as many of these as names means that no name came twice.
    """
    try:
        objects = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if type(objects) is not list or set(map(type, objects)) != {dict} or not all(objects):
        return None
    if _BLANK_COLONS.search(data):
        return None
    if data.count(b'":') != sum(map(len, objects)):
        return None
    if set(map(type, chain.from_iterable(map(dict.values, objects)))) != {str}:
        return None
    return cast("list[Fields]", objects)


def _flat_object(data: bytes) -> Fields | None:
    """The same of an object."""
    objects = _flat(b"[%b]" % data)
    return objects[0] if objects is not None and len(objects) == 1 else None


def _flat_lines(lines: Sequence[bytes]) -> list[Fields] | None:
    """The lines of NDJSON, if `_flat` can tell.

    No line ends within a text, which holds no bare line feed; so with a brace on both sides of each end, lines are
    objects, and as many as there are objects are one each.
    """
    body = b"\n".join(lines)
    if body.count(b"}\n{") != len(lines) - 1:
        return None
    objects = _flat(b"[%b]" % body.replace(b"\n", b",\n"))
    return objects if objects is not None and len(objects) == len(lines) else None


def _load(data: bytes, what: str) -> object:
    """The decoded JSON. Raises UnreadableError, its detail naming `what`: body or item."""
    try:
        return _JSON.decode(data.decode().removeprefix("\ufeff"))
    except UnicodeDecodeError:
        detail = "not valid UTF-8"
    except RecursionError:
        detail = "nested too deeply"
    except JSONDecodeError as error:
        detail = f"not valid JSON at character {error.pos + 1}"
    except ValueError as error:
        detail = f"not valid JSON: {error}"
    raise UnreadableError(400, f"{what}: {detail}")


def _pairs(members: tuple[tuple[str, object], ...]) -> Sent:
    """An object's members as text; null is no member. Raises UnreadableError."""
    pairs: Pairs = []
    append = pairs.append
    for name, value in members:
        if type(value) is str:
            append((name, value))
        elif isinstance(value, _Number):
            append((name, str(value)))
        elif isinstance(value, bool):
            append((name, "true" if value else "false"))
        elif value is not None:
            try:
                append((name, Nested(_compact(value))))
            except RecursionError:
                raise UnreadableError(400, "body: nested too deeply") from None
    return plain(pairs)


def _compact(value: object) -> str:
    """Decoded JSON as compact JSON text, numbers as they were written."""
    match value:
        case _Number():
            return str(value)
        case str():
            return encode_basestring(value)
        case tuple():
            return "{" + ",".join([f"{encode_basestring(name)}:{_compact(below)}" for name, below in value]) + "}"
        case list():
            return "[" + ",".join([_compact(below) for below in value]) + "]"
        case bool():
            return "true" if value else "false"
        case _:
            return "null"


# Bodies ----------------------------------------------------------------------------------------------------------


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _is_json(media_type: str) -> bool:
    return media_type == "application/json" or media_type.endswith("+json")


def read_body(content_type: str, body: bytes) -> Sent:
    """The pairs of one postback's body: a form or a JSON object; none for an empty body. Raises UnreadableError."""
    if not body:
        return []
    media_type = _media_type(content_type)
    if media_type == _FORM:
        return read_fields(body.decode("utf-8", "surrogateescape"))
    if not _is_json(media_type):
        raise UnreadableError(415, f"body: this content type is not read; send {_FORM} or application/json")
    flat = _flat_object(body)
    if flat is not None:
        return flat
    members = _load(body, "body")
    if not isinstance(members, tuple):
        raise UnreadableError(400, "body: not a JSON object")
    return _pairs(members)


def read_bulk(content_type: str, body: bytes) -> list[Sent | Fault]:
    """The items of a JSON array (an object: the one item) or of NDJSON, in order; a bad item is a Fault.

    Raises UnreadableError where there are no items to be seen, or more than MAX_ITEMS.
    """
    return _items(content_type, body, MAX_ITEMS)


def bulk_lines(content_type: str, body: bytes, limit: int = MAX_ITEMS) -> list[bytes] | None:
    """The lines of NDJSON that hold items, for `read_lines`; None for a body of another type. Raises UnreadableError
    where there are more than `limit`."""
    if _media_type(content_type) not in _NDJSON:
        return None
    lines = [line for line in body.split(b"\n") if line and not line.isspace()]
    if len(lines) > limit:
        raise _too_many(limit)
    return lines


def read_lines(lines: Sequence[bytes]) -> list[Sent | Fault]:
    """What stands in lines of NDJSON, in order; a bad one is a Fault."""
    if not lines:
        return []
    flat = _flat_lines(lines)
    return list(flat) if flat is not None else [_item(_line(line)) for line in lines]


def read_objects(content_type: str, body: bytes, limit: int) -> list[dict[str, str] | Fault]:
    """The same items as mappings, numbers in their exact text, for at most `limit` items.

    Names and values are valid Unicode. Raises UnreadableError.
    """
    return [item if isinstance(item, Fault) else _mapping(item) for item in _items(content_type, body, limit)]


def _mapping(sent: Sent) -> dict[str, str] | Fault:
    found: dict[str, str] = {}
    for name, value in pairs_of(sent):
        if valid(name) != name or valid(value) != value:
            return _fault(name, "not valid UTF-8")
        if found.setdefault(name, value) != value:
            return _fault(name, "given twice with different values")
    return found


def _fault(name: str, problem: str) -> Fault:
    return Fault(Reason.BAD_PARAMETER, f"{clean(name, 64)[0]}: {problem}")


def _items(content_type: str, body: bytes, limit: int) -> list[Sent | Fault]:
    lines = bulk_lines(content_type, body, limit)
    if lines is not None:
        return read_lines(lines)
    if not _is_json(_media_type(content_type)):
        raise UnreadableError(415, "body: this content type is not read; send application/json or application/x-ndjson")
    values: Sequence[object] = _flat(body) or _array(body)
    if len(values) > limit:
        raise _too_many(limit)
    return [_item(value) for value in values]


def _too_many(limit: int) -> UnreadableError:
    return UnreadableError(413, f"body: more than {limit} items; send several requests")


def _array(body: bytes) -> list[object]:
    """What an array holds, or the one object. Raises UnreadableError."""
    loaded = _load(body, "body")
    if isinstance(loaded, tuple):
        return [loaded]
    if isinstance(loaded, list):
        return loaded
    raise UnreadableError(400, "body: not a JSON array of objects")


def _line(line: bytes) -> object:
    """What a line of NDJSON holds; a Fault if it is no JSON."""
    try:
        return _flat_object(line) or _load(line, "item")
    except UnreadableError as error:
        return error.fault


def _item(value: object) -> Sent | Fault:
    if isinstance(value, Fault | dict):
        return value
    if not isinstance(value, tuple):
        return Fault(Reason.BAD_PARAMETER, "item: not a JSON object")
    try:
        return _pairs(value)
    except UnreadableError as error:
        return error.fault
