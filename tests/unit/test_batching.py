"""Coalescing: one call for many callers, each with its own result."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from ingest.batching import Coalescer, OverloadedError


class Calls:
    """What is called; each call waits until it is let through, if `is_held`."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.out = 0
        self.most_out = 0
        self.is_held = False
        self._let_through = asyncio.Semaphore(0)
        self._begun = asyncio.Semaphore(0)

    async def __call__(self, items: Sequence[int]) -> list[str]:
        self.batches.append(list(items))
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        self._begun.release()
        try:
            if self.is_held:
                await self._let_through.acquire()
            if any(item < 0 for item in items):
                raise ValueError("negative")
            return [f"<{item}>" for item in items]
        finally:
            self.out -= 1

    async def begun(self) -> None:
        """One more call has begun."""
        await self._begun.acquire()

    def let_through(self, count: int = 1) -> None:
        for _ in range(count):
            self._let_through.release()


def coalescer(
    calls: Calls, *, max_batch: int = 100, max_in_flight: int = 1, max_waiting: int = 1000
) -> Coalescer[int, str]:
    return Coalescer(calls, max_batch=max_batch, max_in_flight=max_in_flight, max_waiting=max_waiting)


async def started() -> None:
    """Let the tasks that were just made run up to their first wait."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_each_caller_has_its_own_result() -> None:
    calls = Calls()
    batching = coalescer(calls)
    results = await asyncio.gather(*(batching.submit(item) for item in range(50)))
    assert results == [f"<{item}>" for item in range(50)]
    assert calls.batches == [list(range(50))]


@pytest.mark.parametrize("max_in_flight", [1, 2, 5])
async def test_no_call_is_empty(max_in_flight: int) -> None:
    calls = Calls()
    batching = coalescer(calls, max_in_flight=max_in_flight)
    for _ in range(3):
        await asyncio.gather(*(batching.submit(item) for item in range(10)))
    assert calls.batches == [list(range(10))] * 3


async def test_what_comes_while_a_call_is_out_goes_with_the_next_one() -> None:
    calls = Calls()
    calls.is_held = True
    batching = coalescer(calls)
    tasks = [asyncio.create_task(batching.submit(0))]
    await calls.begun()
    for item in range(1, 8):
        tasks.append(asyncio.create_task(batching.submit(item)))
        await asyncio.sleep(0)
    calls.let_through(2)
    assert await asyncio.gather(*tasks) == [f"<{item}>" for item in range(8)]
    assert calls.batches == [[0], [1, 2, 3, 4, 5, 6, 7]]


@pytest.mark.parametrize("is_long", [False, True])
async def test_another_call_has_to_be_worth_it(is_long: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if is_long:
        monkeypatch.setattr("ingest.batching.PATIENCE_S", 0.0)
    calls = Calls()
    calls.is_held = True
    batching = Coalescer(calls, max_batch=100, max_in_flight=2, max_waiting=1000, worth=3)
    tasks = [asyncio.create_task(batching.submit(0))]
    await calls.begun()
    for item in range(1, 4):
        tasks.append(asyncio.create_task(batching.submit(item)))
        await started()
        assert calls.out == (2 if is_long or item == 3 else 1)
    tasks.append(asyncio.create_task(batching.submit(4)))
    await started()
    calls.let_through(3)
    assert await asyncio.gather(*tasks) == [f"<{item}>" for item in range(5)]
    assert calls.batches == ([[0], [1], [2, 3, 4]] if is_long else [[0], [1, 2, 3], [4]])


async def test_no_batch_is_larger_than_allowed() -> None:
    calls = Calls()
    batching = coalescer(calls, max_batch=4)
    await asyncio.gather(*(batching.submit(item) for item in range(10)))
    assert calls.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize("max_in_flight", [1, 2, 3])
async def test_calls_at_once_are_bounded(max_in_flight: int) -> None:
    calls = Calls()
    calls.is_held = True
    batching = coalescer(calls, max_batch=2, max_in_flight=max_in_flight)
    tasks = [asyncio.create_task(batching.submit(item)) for item in range(20)]
    for _ in range(max_in_flight):
        await calls.begun()
    await started()
    assert calls.out == max_in_flight
    calls.let_through(10)
    assert await asyncio.gather(*tasks) == [f"<{item}>" for item in range(20)]
    assert calls.most_out == max_in_flight
    assert sorted(calls.batches) == [[item, item + 1] for item in range(0, 20, 2)]


async def test_an_error_is_raised_to_each_of_its_batch_and_to_nobody_else() -> None:
    calls = Calls()
    batching = coalescer(calls, max_batch=3)
    items = [1, -1, 2, 3, 4, 5]
    results = await asyncio.gather(*(batching.submit(item) for item in items), return_exceptions=True)
    assert [str(result) for result in results] == ["negative"] * 3 + ["<3>", "<4>", "<5>"]
    assert await batching.submit(6) == "<6>"


@pytest.mark.parametrize(("count", "errors"), [(0, 2), (1, 2), (3, 2)])
async def test_a_wrong_number_of_results_leaves_nobody_waiting(count: int, errors: int) -> None:
    async def process(items: Sequence[int]) -> list[int]:
        return [7] * count

    batching = Coalescer[int, int](process, max_batch=10, max_in_flight=1, max_waiting=10)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*(batching.submit(item) for item in range(2)), return_exceptions=True)
    assert [isinstance(result, ValueError) for result in results] == [False] * (2 - errors) + [True] * errors
    await batching.close()


@pytest.mark.parametrize("is_out", [False, True])
async def test_a_caller_that_is_cancelled_harms_no_other(is_out: bool) -> None:
    calls = Calls()
    calls.is_held = True
    batching = coalescer(calls)
    tasks = [asyncio.create_task(batching.submit(item)) for item in range(3)]
    if is_out:
        await calls.begun()
    else:
        await asyncio.sleep(0)
    tasks[1].cancel()
    calls.let_through()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == "<0>"
    assert isinstance(results[1], asyncio.CancelledError)
    assert results[2] == "<2>"
    assert calls.batches == [[0, 1, 2]], "what was handed in is done, whoever waits for it"


async def test_all_callers_cancelled() -> None:
    calls = Calls()
    calls.is_held = True
    batching = coalescer(calls)
    tasks = [asyncio.create_task(batching.submit(item)) for item in (-1, 2)]
    await calls.begun()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    calls.let_through()
    await batching.close()
    calls.is_held = False
    assert await batching.submit(3) == "<3>"


async def test_overload_is_refused_at_once_and_passes() -> None:
    calls = Calls()
    calls.is_held = True
    batching = coalescer(calls, max_waiting=3)
    tasks = [asyncio.create_task(batching.submit(0))]
    await calls.begun()
    tasks += [asyncio.create_task(batching.submit(item)) for item in (1, 2, 3)]
    await started()
    for _ in range(2):
        with pytest.raises(OverloadedError):
            await batching.submit(4)
    calls.let_through(2)
    assert await asyncio.gather(*tasks) == ["<0>", "<1>", "<2>", "<3>"]
    calls.is_held = False
    assert await batching.submit(5) == "<5>"
    assert calls.batches == [[0], [1, 2, 3], [5]], "what was refused is never handed on"


async def test_close_waits_for_all_that_was_submitted() -> None:
    calls = Calls()
    calls.is_held = True
    batching = coalescer(calls, max_batch=1)
    tasks = [asyncio.create_task(batching.submit(item)) for item in range(3)]
    await calls.begun()
    closing = asyncio.create_task(batching.close())
    for done in range(3):
        await started()
        assert not closing.done(), f"after {done} of 3 calls"
        calls.let_through()
    await closing
    assert [task.done() for task in tasks] == [True] * 3
    assert await asyncio.gather(*tasks) == ["<0>", "<1>", "<2>"]


async def test_close_with_nothing_under_way() -> None:
    await coalescer(Calls()).close()
