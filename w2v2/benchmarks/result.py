"""The result of a benchmark's case: seconds of each side and round, ratios, and how far results agree."""

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyarrow as pa

from w2v2.benchmarks.processor_time import ProcessorTime

logger = logging.getLogger(__name__)

R = TypeVar("R")

OURS = "w2v2"

TABLE = pa.schema(
    [
        ("case", pa.string()),
        ("part", pa.string()),
        ("side", pa.string()),
        ("what", pa.string()),
        ("round", pa.int64()),
        ("value", pa.float64()),
    ]
)
"""The schema of benchmark.parquet; the column `what` has 'seconds', 'CPU seconds' or the name of an agreement, whose
round is -1."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The same work done by w2v2 and by other programs, side by side."""

    part: str
    seconds: Mapping[str, Sequence[float]]
    """Seconds of each round, by side; our side is OURS."""
    amount: float = 0.0
    unit: str = ""
    """The amount of work, such as 24 clips; 0 where a rate has no meaning."""
    wanted: Mapping[str, float] = field(default_factory=dict)
    """The ratio to reach against a side."""
    cpu_seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Seconds that processors worked, user and system, by side and round; other work on the machine changes them least.
    Empty where they were not measured."""

    def median(self, side: str) -> float:
        """Median seconds of a side."""
        return statistics.median(self.seconds[side])

    def ratios(self, side: str) -> list[float]:
        """A side's seconds divided by ours, in each round."""
        return _ratios(self.seconds[side], self.seconds[OURS])

    def cpu_ratios(self, side: str) -> list[float]:
        """A side's seconds of processors divided by ours, in each round; empty where they were not measured."""
        return _ratios(self.cpu_seconds[side], self.cpu_seconds[OURS]) if self.cpu_seconds else []


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    return [their / our for their, our in zip(theirs, ours, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The difference between a side's results and the expected ones."""

    part: str
    side: str
    what: str
    value: float
    at_most: float = float("inf")
    """The largest difference that counts as agreement; infinite where the number is only reported."""

    @property
    def holds(self) -> bool:
        """Whether the value is within its bound; NaN never is."""
        return self.value <= self.at_most


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """The result of one case."""

    case: str
    comparisons: Sequence[Comparison] = ()
    agreements: Sequence[Agreement] = ()
    notes: Sequence[str] = ()


def joined(parts: Sequence[CaseResult]) -> CaseResult:
    """The result of a case whose parts were measured one after the other."""
    return CaseResult(
        case=parts[0].case,
        comparisons=[comparison for part in parts for comparison in part.comparisons],
        agreements=[agreement for part in parts for agreement in part.agreements],
        notes=[note for part in parts for note in part.notes],
    )


@dataclass(frozen=True, kw_only=True)
class Rounds(Generic[R]):
    """Seconds and results of each side, by round."""

    seconds: dict[str, list[float]]
    results: dict[str, list[R]]
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)
    """Seconds that processors worked, user and system (see ProcessorTime)."""


def alternate(sides: Mapping[str, Callable[[int], R]], *, rounds: int, what: str) -> Rounds[R]:
    """Every side once a round, called with the round's number; every other round in reverse order."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    cpu_seconds: dict[str, list[float]] = {side: [] for side in sides}
    results: dict[str, list[R]] = {side: [] for side in sides}
    for number in range(rounds):
        order = list(sides) if number % 2 == 0 else list(sides)[::-1]
        for side in order:
            started = time.perf_counter()
            with ProcessorTime() as worked:
                results[side].append(sides[side](number))
            seconds[side].append(time.perf_counter() - started)
            cpu_seconds[side].append(worked.seconds)
            took = f"{seconds[side][-1]:.4g} s, {cpu_seconds[side][-1]:.4g} CPU s"
            logger.info("%s: round %d of %d, %s: %s", what, number + 1, rounds, side, took)
    return Rounds(seconds=seconds, cpu_seconds=cpu_seconds, results=results)


def table_of(results: Sequence[CaseResult]) -> pa.Table:
    """All numbers of some cases, as TABLE."""
    rows = [
        {
            "case": result.case,
            "part": comparison.part,
            "side": side,
            "what": measure,
            "round": number,
            "value": value,
        }
        for result in results
        for comparison in result.comparisons
        for measure, by_side in (("seconds", comparison.seconds), ("CPU seconds", comparison.cpu_seconds))
        for side, values in by_side.items()
        for number, value in enumerate(values)
    ]
    rows += [
        {
            "case": result.case,
            "part": agreement.part,
            "side": agreement.side,
            "what": agreement.what,
            "round": -1,
            "value": agreement.value,
        }
        for result in results
        for agreement in result.agreements
    ]
    return pa.Table.from_pylist(rows, schema=TABLE)


def lines_of(result: CaseResult) -> list[str]:
    """A case in words, one line for each side, agreement and note."""
    lines = []
    for comparison in result.comparisons:
        amount = f", {comparison.amount:g} {comparison.unit}" if comparison.amount else ""
        num_rounds = len(comparison.seconds[OURS])
        lines.append(f"{result.case}: {comparison.part}{amount}, median of {num_rounds}")
        lines += [f"    {_side_line(comparison, side)}" for side in comparison.seconds]
    lines += [
        f"{result.case}: {agreement.part}: {agreement.side}: {agreement.what} {agreement.value:.3g}{_bound(agreement)}"
        for agreement in result.agreements
    ]
    return lines + [f"{result.case}: {note}" for note in result.notes]


def _side_line(comparison: Comparison, side: str) -> str:
    median = comparison.median(side)
    line = f"{side:<34} {median:9.4g} s"
    if comparison.cpu_seconds:
        line += f" {statistics.median(comparison.cpu_seconds[side]):9.4g} CPU s"
    if comparison.amount:
        line += f" {comparison.amount / median:9.4g} {comparison.unit}/s"
    if side == OURS:
        return line
    ratios = comparison.ratios(side)
    line += f"   {statistics.median(ratios):.3g} x ours ({min(ratios):.3g} to {max(ratios):.3g})"
    if cpu_ratios := comparison.cpu_ratios(side):
        line += (
            f", CPU {statistics.median(cpu_ratios):.3g} x ({min(cpu_ratios):.3g} to {max(cpu_ratios):.3g})"
        )
    wanted = comparison.wanted.get(side)
    if not wanted:
        return line
    return f"{line}, wanted {wanted:g}: {'reached' if statistics.median(ratios) >= wanted else 'MISSED'}"


def _bound(agreement: Agreement) -> str:
    if agreement.at_most == float("inf"):
        return ""
    return f", at most {agreement.at_most:g}: {'holds' if agreement.holds else 'DOES NOT HOLD'}"
