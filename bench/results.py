"""What was measured: every sample of every round, and medians over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any


@dataclass(slots=True)
class Results:
    """Samples by (adapter, metric), and what went wrong."""

    samples: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list[str])
    skipped: list[str] = field(default_factory=list[str])

    def add(self, name: str, values: Mapping[str, float]) -> None:
        """Keep one round's values of one adapter."""
        for metric, value in values.items():
            self.samples[name, metric].append(value)

    def median(self, name: str, metric: str) -> float | None:
        """Return the median over the rounds; None where nothing was measured."""
        values = self.samples.get((name, metric))
        return median(values) if values else None

    def as_json(self) -> dict[str, Any]:
        """Return medians and samples as plain data."""
        measured: dict[str, dict[str, Any]] = defaultdict(dict)
        for (name, metric), values in self.samples.items():
            measured[name][metric] = {"median": median(values), "samples": values}
        return {"measured": measured, "problems": self.problems, "skipped": self.skipped}


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value below which the given share of the values lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
