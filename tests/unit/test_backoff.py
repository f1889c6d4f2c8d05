"""Retrying for as long as it takes."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.backoff import CAP_S, FIRST_S, StoppedError, delay_s, pause, retrying


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_delays_grow_up_to_the_cap(attempt: int, chance: float) -> None:
    assert FIRST_S / 2 <= delay_s(attempt, chance) <= CAP_S
    assert delay_s(attempt, chance) <= delay_s(attempt + 1, chance)


def is_transient(error: Exception) -> bool:
    return isinstance(error, ConnectionError)


async def test_retries_until_it_succeeds() -> None:
    failures = [ConnectionError("one"), ConnectionError("two")]
    seen: list[tuple[str, float]] = []

    async def operation() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    result = await retrying(
        operation,
        stop=asyncio.Event(),
        is_transient=is_transient,
        on_retry=lambda error, wait_s: seen.append((str(error), wait_s)),
    )
    assert result == "done"
    assert [text for text, _ in seen] == ["one", "two"]
    assert all(FIRST_S / 2 <= wait_s <= 2 * FIRST_S for _, wait_s in seen)


async def test_an_error_of_the_data_is_raised_at_once() -> None:
    async def operation() -> None:
        raise ValueError("bad row")

    def never(error: Exception, wait_s: float) -> None:
        raise AssertionError("no retry")

    with pytest.raises(ValueError, match="bad row"):
        await retrying(operation, stop=asyncio.Event(), is_transient=is_transient, on_retry=never)


async def test_a_stop_ends_the_waiting_and_gives_one_more_attempt() -> None:
    stop = asyncio.Event()
    attempts = 0

    async def operation() -> None:
        nonlocal attempts
        attempts += 1
        raise ConnectionError

    def stop_now(error: Exception, wait_s: float) -> None:
        stop.set()

    with pytest.raises(StoppedError):
        await retrying(operation, stop=stop, is_transient=is_transient, on_retry=stop_now)
    assert attempts == 2


async def test_a_pause_ends_with_its_time_or_the_stop() -> None:
    stop = asyncio.Event()
    await pause(stop, 0.001)
    assert not stop.is_set()
    stop.set()
    async with asyncio.timeout(5):
        await pause(stop, 3_600)
