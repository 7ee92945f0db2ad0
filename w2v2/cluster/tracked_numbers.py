"""The data of a run directory that a tracker receives: settings and scores under flat names, curves and trials."""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from w2v2.json_types import Json, JsonObject
from w2v2.measurements import Points
from w2v2.storage import files as storage
from w2v2.storage import run_directory

SECTIONS = ("estimate", "pooled", "selection", "last")
"""The parts of metrics.json whose numbers are sent, besides the numbers on its first level."""
_NOT_IN_NAMES = re.compile(r"[^\w\-. /]")


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial of a search."""

    state: str
    params: Mapping[str, Json]
    scores: Mapping[str, float]


def flat_settings(settings: Mapping[str, Json], prefix: str = "") -> dict[str, str]:
    """The settings with a value each, by path.

    >>> flat_settings({"encoder": {"name": "tiny"}, "seed": 0})
    {'encoder.name': 'tiny', 'seed': '0'}
    """
    values: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            values |= flat_settings(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = str(value)
    return values


def headline(metrics: JsonObject) -> dict[str, float]:
    """The numbers of metrics.json by name: estimate/uar with its interval estimate/uar_low and _high, pooled/uar, ...

    >>> headline({"trial": 2, "pooled": {"uar": 0.5, "accuracy": None, "intervals": {"uar": [0.4, 0.6]}}})
    {'trial': 2.0, 'pooled/uar': 0.5, 'pooled/uar_low': 0.4, 'pooled/uar_high': 0.6}
    """
    numbers = _numbers({name: v for name, v in metrics.items() if not isinstance(v, dict | list)}, "")
    estimate = metrics.get("estimate", {})
    for name, score in estimate.get("metrics", {}).items():
        numbers |= _numbers({name: score["value"], f"{name}_low": score["low"], f"{name}_high": score["high"]}, "estimate/")  # fmt: skip
    for section in (name for name in SECTIONS[1:] if isinstance(metrics.get(name), dict)):
        numbers |= _numbers(metrics[section], f"{section}/")
    return numbers


def _numbers(values: Mapping[str, Json], prefix: str) -> dict[str, float]:
    """The numbers of nested values by path; intervals as _low and _high of their score, other lists left out."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        place = _NOT_IN_NAMES.sub("_", f"{prefix}{name}")
        if name == "intervals" and isinstance(value, dict):
            numbers |= _intervals(value, prefix)
        elif isinstance(value, dict):
            numbers |= _numbers(value, f"{place}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            numbers[place] = float(value)
    return numbers


def _intervals(values: JsonObject, prefix: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in values.items():
        place = _NOT_IN_NAMES.sub("_", f"{prefix}{name}")
        if isinstance(value, dict):
            numbers |= _intervals(value, f"{place}/")
        elif isinstance(value, list | tuple) and len(value) == 2:
            numbers |= {f"{place}_low": float(value[0]), f"{place}_high": float(value[1])}
    return numbers


def trial_group(trial: int) -> str:
    """The group of a trial's measurements; the groups of its folds are below it.

    >>> trial_group(3)
    'trial-00003'
    """
    return f"trial-{trial:05d}"


def fold_group(trial: int, fold: int) -> str:
    """The group of the learning curve of a fold of a trial.

    >>> fold_group(3, 0)
    'trial-00003/fold-00'
    """
    return f"{trial_group(trial)}/fold-{fold:02d}"


def curves_of(run: str) -> Iterator[tuple[str, Points]]:
    """The learning curves of a finished run, of trainings or of the folds of trials, and the scores of the folds.

    Raises StorageError, as trials_of and data_digest do, where a table is there and cannot be read.
    """
    groups: dict[str, list[tuple[int, Mapping[str, float | None]]]] = {}
    for row in _rows(run, "curves"):
        is_fold = "trial" in row
        group = fold_group(row["trial"], row["fold"]) if is_fold else row.get("split", "training")
        step = row["step"] if "step" in row else row["epoch"]
        values = {n: v for n, v in row.items() if n not in ("trial", "fold", "split", "step", "epoch")}
        groups.setdefault(group, []).append((step, values))
    for row in _rows(run, "folds"):
        values = {
            name: row[name] for name in ("uar", "accuracy", "macro_f1", "cer", "wer", "loss") if name in row
        }
        groups.setdefault(trial_group(row["trial"]), []).append((row["fold"], values))
    yield from groups.items()


def trials_of(run: str) -> Iterator[tuple[str, Trial]]:
    """The trials of a finished search by group; none for other jobs."""
    for row in _rows(run, "trials"):
        params = {name.removeprefix("params_"): v for name, v in row.items() if name.startswith("params_")}
        scores = {
            name: float(value)
            for name, value in row.items()
            if name.endswith(("_mean", "_std")) and not name.startswith("params_") and value is not None
        }
        yield trial_group(row["trial"]), Trial(state=row["state"], params=params, scores=scores)


def data_digest(run: str) -> str:
    """SHA-256 over the clips of the run's manifest and their audio, 16 hex digits; '' without a manifest."""
    names = ("clip_id", "audio_digest", "label", "speaker", "fold", "split")
    rows = [tuple(str(row.get(name)) for name in names) for row in _rows(run, "manifest")]
    return hashlib.sha256(repr(sorted(rows)).encode()).hexdigest()[:16] if rows else ""


def _rows(run: str, name: str) -> list[dict[str, Any]]:
    """The rows of a table of the run; none where it has no such table."""
    try:
        table: pa.Table = run_directory.read_table(run, name)
    except storage.NotFoundError:
        return []
    return table.to_pylist()
