"""The files of requests that the rows send, and the clicks that they name."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from benchmarks.load import write_frames
from benchmarks.workload import Postback, bulk_request, get_request, make_clicks, make_postbacks
from storage.rows import NewClick

WARM_UP: Final = 5_000
REPEATED: Final = 5_000
BULK: Final = 1_000
REJECTED: Final = 0.2


@dataclass(frozen=True, slots=True)
class Counted:
    """Files of requests: `counted` and `warm_up` name each click once."""

    clicks: list[NewClick]
    warm_up_clicks: list[NewClick]
    counted: Path
    warm_up: Path


@dataclass(frozen=True, slots=True)
class Prepared(Counted):
    """And `repeated`, a part of `counted`; of `rejected` every fifth must be, `is_rejection` says which; `bulk` carries
    `bulk_size` items a request."""

    repeated: Path
    rejected: Path
    is_rejection: list[bool]
    bulk: Path
    bulk_size: int


def prepare(folder: Path, seed: int, events: int, now_ms: int) -> Prepared:
    """Everything for `events` postbacks; the same for the same seed, but for the clicks' times."""
    rng = random.Random(seed)
    clicks = make_clicks(rng, events, now_ms)
    warm_up_clicks = make_clicks(rng, min(events, WARM_UP), now_ms)
    bulk_size = min(BULK, max(1, events // 10))
    counted = list(make_postbacks(rng, clicks))
    rejected = list(make_postbacks(rng, clicks, rejected=REJECTED))
    files = {name: folder / f"{name}.frames" for name in ("counted", "warm_up", "repeated", "rejected", "bulk")}
    write_frames(files["counted"], map(get_request, counted))
    write_frames(files["warm_up"], map(get_request, make_postbacks(rng, warm_up_clicks)))
    write_frames(files["repeated"], map(get_request, counted[:REPEATED]))
    write_frames(files["rejected"], map(get_request, rejected))
    write_frames(files["bulk"], map(bulk_request, _batches(counted, bulk_size)))
    is_rejection = [postback.is_rejection for postback in rejected]
    return Prepared(clicks, warm_up_clicks, **files, is_rejection=is_rejection, bulk_size=bulk_size)


def prepare_counted(folder: Path, rng: random.Random, events: int, warm_up: int, now_ms: int) -> Counted:
    """Postbacks of new clicks, so many each. Files of an earlier call are replaced."""
    counted, first = folder / "counted.frames", folder / "warm_up.frames"
    clicks = write_postbacks(counted, rng, events, now_ms)
    return Counted(clicks, write_postbacks(first, rng, warm_up, now_ms), counted, first)


def write_postbacks(path: Path, rng: random.Random, events: int, now_ms: int) -> list[NewClick]:
    """A file of postbacks that each count, one for each of the clicks that are returned."""
    clicks = make_clicks(rng, events, now_ms)
    write_frames(path, map(get_request, make_postbacks(rng, clicks)))
    return clicks


def _batches(postbacks: Sequence[Postback], size: int) -> Iterator[list[Postback]]:
    remaining = iter(postbacks)
    while len(batch := list(islice(remaining, size))) == size:
        yield batch
