"""`python -m tests.fault.soak`: hours of faults under load, and then every answer compared with the tables.

Ends with a table of what each fault did, and with status 1 if anything was lost, doubled, or worth another amount.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from tests.eventually import eventually
from tests.fault.soak_check import Tally, compare
from tests.fault.soak_faults import Faults
from tests.fault.soak_load import Load
from tests.fault.soak_world import CATCH_UP_LIMIT_S, World, world_in
from tests.program import ROOT

PAGE = ROOT / "docs" / "faults.md"
CLICKS_AT_ONCE = 10_000
GAP_S = 0.5

HEAD = """\
# Faults

Written by `make soak` (`python -m tests.fault.soak`): a load with a ledger of every answer, faults injected one after
the other at random, and at the end every answer compared with the tables. The program runs with two receivers and two
writers; Valkey and PostgreSQL are the embedded ones, fsync on, behind proxies that misbehave.
"""
NOTES = """\
- **2xx during it**: postbacks answered while the fault lasted; row "none": between faults.
- **lost**: 2xx answers without a row in `conversions` or `postback_log`. **doubled**: items with two conversions, or
  with more rows than attempts to send them. **sum difference**: sale, revenue and payout in the tables less what they
  must be. A postback belongs to the fault during which, or after which, it was first answered.
- **longest wait**: of any sender, from its first attempt at a postback to the 2xx, over all its retries.
- **longest catch-up**: from the end of the fault until all that was taken before is in Postgres and every process is
  back.
- `FLUSHALL` comes when the queue is empty: what only Redis holds is lost with its memory, which no program can prevent.
  The row shows that nothing is counted twice afterwards."""


@dataclass(frozen=True, slots=True)
class Options:
    """How much of it. It goes on until there were `faults` faults and `postbacks` postbacks, or `minutes` are over."""

    faults: int
    postbacks: int
    minutes: float
    seed: int
    longest_s: float = 3.0
    only: str = ""
    """Faults whose names match this regular expression."""
    rate_s: float = 0.0
    """Postbacks a second; 0: so that they are reached in nine tenths of the time."""


@dataclass
class Row:
    """One kind of fault."""

    times: int = 0
    answers: int = 0
    unavailable_s: float = 0.0
    catch_up_s: float = 0.0
    tally: Tally = field(default_factory=Tally)


@dataclass
class Report:
    """What came of it."""

    options: Options
    rows: dict[str, Row]
    postbacks: int
    took_s: float

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, doubled or worth another amount."""
        return all(row.tally.is_clean for row in self.rows.values())

    def page(self) -> Iterator[str]:
        """The lines of docs/faults.md."""
        yield HEAD
        faults = sum(row.times for row in self.rows.values())
        yield f"{faults} faults, {self.postbacks:,} postbacks stored (answered 2xx), in {self.took_s / 60:.0f} minutes."
        where = (
            f"{os.cpu_count()} cores, shared with other work; {platform.machine()}, Python {platform.python_version()}"
        )
        yield f"{where}; seed {self.options.seed}."
        yield ""
        yield "| fault | times | 2xx during it | lost | doubled | sum difference | longest wait | longest catch-up |"
        yield "|---|---:|---:|---:|---:|---:|---:|---:|"
        for name, row in sorted(self.rows.items()):
            yield _line(name, row)
        total = Row(tally=Tally())
        for row in self.rows.values():
            total.times += row.times
            total.answers += row.answers
            total.unavailable_s = max(total.unavailable_s, row.unavailable_s)
            total.catch_up_s = max(total.catch_up_s, row.catch_up_s)
            total.tally.lost += row.tally.lost
            total.tally.doubled += row.tally.doubled
            total.tally.difference += row.tally.difference
        yield _line("**all**", total)
        yield ""
        yield NOTES


def _line(name: str, row: Row) -> str:
    tally = row.tally
    difference = f"{tally.difference.normalize():f}" if tally.difference else "0"
    return (
        f"| {name} | {row.times} | {row.answers:,} | {tally.lost} | {tally.doubled} | {difference}"
        f" | {row.unavailable_s:.1f} s | {row.catch_up_s:.1f} s |"
    )


async def soak(options: Options, folder: Path) -> Report:
    """Run it in `folder`, on engines of its own."""
    chance = random.Random(options.seed)
    began = time.monotonic()
    rows: dict[str, Row] = {"none": Row()}
    names = ["none"]  # of each fault, in order
    async with world_in(folder) as world:
        duration_s = options.minutes * 60
        rate_s = options.rate_s or options.postbacks / (duration_s * 0.9)
        load = Load(world.program.url, bulk=4, single=6, rate_s=rate_s, duration_s=duration_s)
        await _register(world, load)
        load.start()
        faults = Faults(world, load, chance, longest_s=options.longest_s)
        bag: list[str] = []
        before = load.stored

        def is_over() -> bool:
            enough = len(names) > options.faults and load.stored >= options.postbacks
            return enough or time.monotonic() - began > duration_s

        while not is_over():
            await asyncio.sleep(chance.uniform(0.2, 1.0) * GAP_S)
            load.check()
            if not bag:
                bag = sorted(name for name in faults.kinds() if re.search(options.only, name))
                chance.shuffle(bag)
            name = bag.pop()
            row = rows.setdefault(name, Row())
            rows["none"].answers += load.stored - before
            names.append(name)
            load.fault = len(names) - 1
            at_start, started = load.stored, time.monotonic()
            await faults.kinds()[name]()
            before = load.stored
            row.times += 1
            row.answers += before - at_start
            lifted = time.monotonic()
            await _caught_up(world, load)
            caught_up = time.monotonic()
            row.catch_up_s = max(row.catch_up_s, caught_up - lifted)
            print(
                f"{len(names) - 1:4} {name}: {lifted - started:.1f} s, caught up in {caught_up - lifted:.1f} s,"
                f" {load.stored:,} postbacks",
                flush=True,
            )
        rows["none"].answers += load.stored - before
        await asyncio.wait_for(load.finish(), CATCH_UP_LIMIT_S)
        await eventually(world.is_empty, bool, within_s=CATCH_UP_LIMIT_S)
        for number, tally in (await compare(load, world.dsn)).items():
            _add(rows[names[number]].tally, tally)
        for number, waited_s in load.waits_s.items():
            row = rows[names[number]]
            row.unavailable_s = max(row.unavailable_s, waited_s)
        assert world.program.stop() == 0
    return Report(options, rows, load.stored, time.monotonic() - began)


async def _register(world: World, load: Load) -> None:
    """All clicks of the load."""
    clicks = list(load.clicks())
    headers = {"Authorization": f"Bearer {world.program.admin_key}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        for start in range(0, len(clicks), CLICKS_AT_ONCE):
            part = clicks[start : start + CLICKS_AT_ONCE]
            async with http.post(f"{world.program.url}/clicks", json=part) as response:
                assert response.status == 200, await response.text()


async def _caught_up(world: World, load: Load) -> None:
    """Senders are served again, and what was taken is in Postgres."""
    stored = load.stored

    async def now() -> int:
        load.check()
        return load.stored

    await eventually(now, lambda found: found > stored, within_s=CATCH_UP_LIMIT_S)
    await world.caught_up()


def _add(tally: Tally, more: Tally) -> None:
    tally.items += more.items
    tally.lost += more.lost
    tally.doubled += more.doubled
    tally.difference += more.difference
    tally.examples += more.examples


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.fault.soak", description=__doc__)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--postbacks", type=int, default=2_000_000)
    parser.add_argument("--minutes", type=float, default=60.0, help="the most that it may take")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--page", type=Path, default=PAGE, help="where the table goes")
    parser.add_argument("--only", default="", help="faults whose names match this regular expression; writes no page")
    given = parser.parse_args()
    options = Options(given.faults, given.postbacks, given.minutes, given.seed, only=given.only)
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="pb-soak-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL under root runs as another user
        report = asyncio.run(soak(options, Path(folder)))
    page = "\n".join(report.page()) + "\n"
    if not given.only:
        given.page.write_text(page, encoding="utf-8")
    print(page)
    for name, row in report.rows.items():
        for example in row.tally.examples[:5]:
            print(f"{name}: {example}")
    sys.exit(0 if report.is_clean else 1)


if __name__ == "__main__":
    main()
