"""What deploy/ shows and alerts on is what the program measures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from storage.partitions import ahead_until


@pytest.mark.parametrize(
    ("now", "until"),
    [
        (datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, 59, tzinfo=UTC), datetime(2027, 2, 1, tzinfo=UTC)),
        (datetime(2027, 1, 1, tzinfo=UTC), datetime(2027, 3, 1, tzinfo=UTC)),
    ],
)
def test_partitions_reach_to_the_end_of_next_month(now: datetime, until: datetime) -> None:
    assert ahead_until(now) == until
