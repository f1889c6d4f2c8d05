"""Rows as a Parquet file. Needs pyarrow, which is an extra; it is imported when the first file is made."""

# ruff: noqa: PLC0415

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from storage.postgres import Row

_AMOUNT: Final = (18, 6)
_SUM: Final = (38, 6)
_RATE: Final = (18, 9)


class ParquetMissingError(Exception):
    """pyarrow is not installed; the message says what to do."""


def _arrow() -> Any:
    try:
        import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
    except ImportError:
        raise ParquetMissingError(
            "Parquet needs pyarrow: pip install 'postback[parquet]', or take --format csv"
        ) from None
    return pyarrow


def require_parquet() -> None:
    """Raises ParquetMissingError."""
    _arrow()


class ParquetFile:
    """Writes rows under their columns, (name, Postgres' type). Each write is a row group. Amounts are
    decimal128(18, 6), of `is_sums` decimal128(38, 6), exchange rates decimal128(18, 9); what does not
    fit exactly raises ValueError."""

    def __init__(self, file: BinaryIO, columns: Sequence[tuple[str, str]], *, is_sums: bool) -> None:
        self._arrow = _arrow()
        self._schema = self._arrow.schema(
            [self._arrow.field(name, self._type(name, pg_type, is_sums=is_sums)) for name, pg_type in columns]
        )
        self._writer = self._arrow.parquet.ParquetWriter(file, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def write(self, rows: Sequence[Row]) -> None:
        """A row group, unless there are none."""
        if not rows:
            return
        arrays = [
            self._arrow.array([row[place] for row in rows], type=field.type) for place, field in enumerate(self._schema)
        ]
        self._writer.write_batch(self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema))

    def _type(self, name: str, pg_type: str, *, is_sums: bool) -> Any:
        match pg_type:
            case "int8":
                return self._arrow.int64()
            case "int4":
                return self._arrow.int32()
            case "timestamptz":
                return self._arrow.timestamp("us", tz="UTC")
            case "date":
                return self._arrow.date32()
            case "numeric":
                size = _RATE if name == "exchange_rate" else _SUM if is_sums else _AMOUNT
                return self._arrow.decimal128(*size)
            case _:
                return self._arrow.string()
