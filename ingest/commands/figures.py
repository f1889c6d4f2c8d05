"""What two scrapes of /metrics say of the time between them: rates, quantiles, and the levels at its end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """The samples of some servers, summed, by name and labels; `at_s`: when, by any one clock that does not go back."""

    at_s: float
    samples: Mapping[str, Mapping[Labels, float]]


def read_scrape(at_s: float, texts: Iterable[str]) -> Scrape:
    """From each server's text exposition. Raises ValueError for what is none."""
    samples: dict[str, dict[Labels, float]] = {}
    for text in texts:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                of_name = samples.setdefault(sample.name, {})
                labels = frozenset(sample.labels.items())
                of_name[labels] = of_name.get(labels, 0.0) + sample.value
    return Scrape(at_s, samples)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the time from one scrape to the next. Where a counter has gone back its process began anew: all that it has
    was counted since."""

    before: Scrape
    after: Scrape

    @property
    def seconds(self) -> float:
        """How long that is."""
        return self.after.at_s - self.before.at_s

    def rate(self, name: str) -> float:
        """Of a counter over all its labels, a second."""
        return sum(self._growth(name).values()) / self.seconds

    def rates_by(self, name: str, label: str) -> dict[str, float]:
        """Of a counter by one of its labels, a second."""
        rates: dict[str, float] = {}
        for labels, growth in self._growth(name).items():
            value = dict(labels).get(label, "")
            rates[value] = rates.get(value, 0.0) + growth / self.seconds
        return rates

    def level(self, name: str) -> float:
        """Of a gauge, or of a counter since its process began; over all its labels."""
        return sum(self.after.samples.get(name, {}).values())

    def quantile(self, name: str, share: float) -> float | None:
        """Of a histogram, within its buckets as if evenly spread; None where nothing was observed. What is beyond the
        last bound is given as that bound."""
        counts: dict[float, float] = {}
        for labels, growth in self._growth(f"{name}_bucket").items():
            bound = float(dict(labels)["le"])
            counts[bound] = counts.get(bound, 0.0) + growth
        wanted = counts.get(inf, 0.0) * share
        if not wanted:
            return None
        lower = below = 0.0
        for bound, count in sorted(counts.items()):
            if count >= wanted:
                return lower if bound == inf else lower + (bound - lower) * (wanted - below) / (count - below)
            lower, below = bound, count
        return lower

    def _growth(self, name: str) -> dict[Labels, float]:
        before = self.before.samples.get(name, {})
        after = self.after.samples.get(name, {})
        return {
            labels: value - before.get(labels, 0.0) if value >= before.get(labels, 0.0) else value
            for labels, value in after.items()
        }
