"""Sweeps for the plots: throughput against concurrency, latency against load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from benchmarks.plots import Line, line_chart
from benchmarks.rows import Bench, Sample, empty_with, receiver_with

CONNECTIONS: Final = (1, 4, 16, 64, 256, 1024)
SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9)


async def sweep(bench: Bench, say: Callable[[str], None]) -> dict[str, str]:
    """Drawings by file name. `bench` has been through at least one round."""
    by_connections: dict[str, list[Sample]] = {"receiver": [], "aiohttp-empty": []}
    for connections in CONNECTIONS:
        by_connections["receiver"].append(await receiver_with(bench, connections=connections))
        by_connections["aiohttp-empty"].append(await empty_with(bench, connections=connections))
        say(f"concurrency {connections}: " + _rates({name: found[-1] for name, found in by_connections.items()}))
    peak = bench.last["receiver"].per_s
    by_rate: dict[str, list[Sample]] = {"receiver": [], "aiohttp-empty": []}
    for share in SHARES:
        by_rate["receiver"].append(await receiver_with(bench, rate=peak * share))
        by_rate["aiohttp-empty"].append(await empty_with(bench, rate=peak * share))
        say(f"{share:.0%} of the peak: " + _rates({name: found[-1] for name, found in by_rate.items()}))
    throughput = [
        Line(name, [(float(connections), sample.per_s) for connections, sample in zip(CONNECTIONS, found, strict=True)])
        for name, found in by_connections.items()
    ]
    latency = [
        line
        for name, found in by_rate.items()
        for line in (
            Line(f"{name} p50", [(sample.per_s, sample.p50_us / 1000) for sample in found]),
            Line(f"{name} p99", [(sample.per_s, sample.p99_us / 1000) for sample in found]),
        )
    ]
    return {
        "benchmark-concurrency.svg": line_chart(
            "Throughput against concurrency", "connections", "requests per second", throughput, is_log_x=True
        ),
        "benchmark-latency.svg": line_chart(
            "Latency against load", "requests per second", "ms", latency, is_log_y=True
        ),
    }


def _rates(samples: dict[str, Sample]) -> str:
    return ", ".join(
        f"{name} {sample.per_s:,.0f}/s p99 {sample.p99_us / 1000:.1f} ms"
        f"{'  INVALID: ' + '; '.join(sample.problems) if sample.problems else ''}"
        for name, sample in samples.items()
    )
