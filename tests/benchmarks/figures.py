"""Figures: what a measurement yields, and how it is printed next to its target. None is judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured value. `note`: what else was seen, or was set other than by default."""

    measurement: str
    name: str
    value: float
    unit: str
    target: str = ""
    note: str = ""

    def line(self) -> str:
        value = f"{self.value:,.0f}" if self.unit in {"", "/s"} else f"{self.value:,.{self._digits()}f}"
        measured = f"{value} {self.unit}".rstrip()
        return f"{self.measurement:34}{self.name:32}{measured:>14}   {self.target:<12} {self.note}".rstrip()

    def _digits(self) -> int:
        return {"s": 3, "x": 2}.get(self.unit, 1)


HEADING = f"{'measurement':34}{'figure':32}{'measured':>14}   {'to reach':<12} note"


@dataclass(frozen=True, kw_only=True, slots=True)
class Spread:
    """p50, p99 and maximum of some lengths, in seconds."""

    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        ascending = sorted(values)
        return cls(p50=percentile(ascending, 50), p99=percentile(ascending, 99), most=ascending[-1])

    @classmethod
    def medians(cls, spreads: Sequence["Spread"]) -> "Spread":
        """Return the median of each over several repetitions."""
        return cls(
            p50=median(spread.p50 for spread in spreads),
            p99=median(spread.p99 for spread in spreads),
            most=median(spread.most for spread in spreads),
        )

    def figures(self, measurement: str, *, target: str = "", note: str = "") -> list[Figure]:
        """Return the three as figures; `target` is that of the p99."""
        return [
            Figure(measurement=measurement, name="p50", value=self.p50, unit="s", note=note),
            Figure(measurement=measurement, name="p99", value=self.p99, unit="s", target=target),
            Figure(measurement=measurement, name="max", value=self.most, unit="s"),
        ]


def percentile(ascending: Sequence[float], percent: int) -> float:
    """Return the smallest value that at least `percent` of all do not exceed (nearest rank)."""
    return ascending[max(0, -(-len(ascending) * percent // 100) - 1)]
