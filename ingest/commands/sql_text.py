"""SQL as it is typed, cut into statements; results as psql shows them, as CSV or as JSON. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import orjson
from rich.cells import cell_len

from ingest.commands.output import visible

_PART = re.compile(
    r"""
      [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)                       # a text with escapes
    | '(?:[^']|'')*(?:'|\Z)                                 # a text
    | "(?:[^"]|"")*(?:"|\Z)                                 # an identifier
    | \$(?P<tag>[A-Za-z_]\w*)\$.*?(?:\$(?P=tag)\$|\Z)       # a text in dollars, with a tag
    | \$\$.*?(?:\$\$|\Z)                                    # and without
    | --[^\n]*                                              # comments
    | [\w$]+                                                # a word: its quotes and dollars begin nothing
    | (?P<block>/\*)
    | (?P<end>;)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK = re.compile(r"/\*|\*/")
_CSV_SPECIAL = re.compile(r'[",\r\n]')
_JSON_TYPES = frozenset({"json", "jsonb"})


def split_statements(text: str) -> tuple[list[str], str]:
    """The statements that end in a semicolon, without it, and the rest. Empty statements are left out.

    A semicolon in a text, an identifier or a comment ends nothing.
    """
    statements = []
    start = at = 0
    while found := _PART.search(text, at):
        at = found.end()
        if found["block"]:
            at = _end_of_block(text, at)
        elif found["end"]:
            statements.append(text[start : found.start()].strip())
            start = at
    return [statement for statement in statements if statement], text[start:]


def _end_of_block(text: str, at: int) -> int:
    """Where a comment ends whose opening ends at `at`; Postgres' comments nest."""
    depth = 1
    for found in _BLOCK.finditer(text, at):
        depth += 1 if found[0] == "/*" else -1
        if depth == 0:
            return found.end()
    return len(text)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result; `type_name` as Postgres calls it."""

    name: str
    type_name: str

    @property
    def is_number(self) -> bool:
        """Whether it is shown to the right."""
        return self.type_name in {"int2", "int4", "int8", "numeric", "float4", "float8", "oid", "money"}


Rows = Sequence[Sequence[object]]


def shown(value: object) -> str:
    """A value as Postgres writes it; null is empty."""
    match value:
        case None:
            return ""
        case bool():
            return "t" if value else "f"
        case bytes():
            return "\\x" + value.hex()
        case list() | tuple():
            return "{" + ",".join("NULL" if item is None else _quoted(shown(item), item) for item in value) + "}"
        case _:
            return str(value)


def _quoted(text: str, item: object) -> str:
    if isinstance(item, list) or (text and not re.search(r'[\s{},"\\]', text) and text.lower() != "null"):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_table(columns: Sequence[Column], rows: Rows, *, width: int | None = None) -> str:
    """Aligned under a header; one record after the other where that is wider than `width`."""
    cells = [[_one_line(shown(value)) for value in row] for row in rows]
    names = [_one_line(column.name) for column in columns]
    sizes = [max(map(cell_len, texts)) for texts in zip(names, *cells, strict=True)]
    if width is not None and sum(sizes) + 3 * len(sizes) - 1 > width:
        text = _records(names, cells)
    else:
        to_right = [column.is_number for column in columns]
        lines = [_line(names, sizes, [False] * len(names)), "-+-".join("-" * size for size in sizes)]
        lines += [_line(row, sizes, to_right) for row in cells]
        text = "".join(f" {line}".rstrip() + "\n" for line in lines)
    return text + f"({len(rows)} row{'' if len(rows) == 1 else 's'})\n"


def _one_line(text: str) -> str:
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _line(cells: Sequence[str], sizes: Sequence[int], to_right: Sequence[bool]) -> str:
    return " | ".join(
        _pad(cell, size) + cell if right else cell + _pad(cell, size)
        for cell, size, right in zip(cells, sizes, to_right, strict=True)
    )


def _records(names: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    size = max(map(cell_len, names))
    lines = []
    for number, row in enumerate(cells, 1):
        lines.append(f"-[ record {number} ]-")
        lines += [f"{name}{_pad(name, size)} | {cell}".rstrip() for name, cell in zip(names, row, strict=True)]
    return "".join(f"{line}\n" for line in lines)


def _pad(text: str, size: int) -> str:
    return " " * (size - cell_len(text))


def as_csv(columns: Sequence[Column], rows: Rows) -> str:
    """With a header, as Postgres' own COPY writes it: null is nothing, an empty text is two quotes."""
    lines = [",".join(_csv_cell(column.name) for column in columns)]
    lines += [",".join("" if value is None else _csv_cell(shown(value)) for value in row) for row in rows]
    return "".join(f"{line}\n" for line in lines)


def _csv_cell(text: str) -> str:
    if text and not _CSV_SPECIAL.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'


def as_json(columns: Sequence[Column], rows: Rows) -> str:
    """An array of objects. numeric is a text, which is exact; json is what it is. Names that repeat are numbered."""
    names: list[str] = []
    for column in columns:
        repeats = sum(earlier.name == column.name for earlier in columns[: len(names)])
        names.append(f"{column.name}_{repeats + 1}" if repeats else column.name)
    objects = [
        orjson.dumps(
            {
                name: orjson.Fragment(value)
                if column.type_name in _JSON_TYPES and isinstance(value, str)
                else _json_value(value)
                for name, column, value in zip(names, columns, row, strict=True)
            }
        ).decode()
        for row in rows
    ]
    return f"[{f',{chr(10)} '.join(objects)}]\n"


def _json_value(value: object) -> object:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | tuple():
            return [_json_value(item) for item in value]
        case _:
            return shown(value)
