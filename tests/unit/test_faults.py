"""Whose fault an error is."""

from __future__ import annotations

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest
from redis import exceptions as redis

from storage.faults import Fault, MalformedError, classify

TRANSIENT = [
    OSError("refused"),
    TimeoutError(),
    ConnectionResetError(),
    redis.ConnectionError(),
    redis.ReadOnlyError(),
    redis.ClusterDownError("down"),
    asyncpg.InterfaceError("connection is closed"),
    asyncpg.InternalClientError("cannot switch to state 15; another operation (2) is in progress"),
    asyncpg.ConnectionDoesNotExistError("lost"),
    asyncpg.CannotConnectNowError("starting up"),
    asyncpg.AdminShutdownError("terminating"),
    asyncpg.TooManyConnectionsError("too many"),
    asyncpg.DiskFullError("no space"),
    asyncpg.DeadlockDetectedError("deadlock"),
    asyncpg.SerializationError("could not serialize"),
    asyncpg.ReadOnlySQLTransactionError("read-only"),
    asyncpg.UndefinedTableError("not migrated"),
]
DATA = [
    asyncpg.NumericValueOutOfRangeError("overflow"),
    asyncpg.StringDataRightTruncationError("too long"),
    asyncpg.BadCopyFileFormatError("missing data"),
    asyncpg.NotNullViolationError("null"),
    asyncpg.ProgramLimitExceededError("index row size"),
    asyncpg.StatementTooComplexError("stack depth"),
    MalformedError("unknown kind"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=lambda error: type(error).__name__)
def test_what_passes_by_itself(error: Exception) -> None:
    assert classify(error) is Fault.TRANSIENT


@pytest.mark.parametrize("error", DATA, ids=lambda error: type(error).__name__)
def test_what_a_row_brings_upon_itself(error: Exception) -> None:
    assert classify(error) is Fault.DATA


def test_a_broken_check_has_a_name_and_a_missing_partition_has_none() -> None:
    error = asyncpg.CheckViolationError("no partition of relation found for row")
    assert classify(error) is Fault.PARTITION
    error.constraint_name = "conversions_status_check"
    assert classify(error) is Fault.DATA


def test_a_defect_is_nobodys_fault() -> None:
    assert classify(KeyError("bug")) is None
