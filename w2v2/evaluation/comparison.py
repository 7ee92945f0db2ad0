"""Runs over the same clips compared: differences with intervals, a ranking, wins and losses by speaker."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from w2v2.evaluation.bootstrap import Interval, Scored, difference, intervals, plain
from w2v2.evaluation.direction import sign
from w2v2.json_types import Json

CONFIDENCE = 0.95


def differences(first: Scored, other: Scored, *, seed: int) -> dict[str, dict[str, Json]]:
    """How much higher `first` scores than `other`, by metric, as plain JSON: value, interval, standard errors.

    A search takes part with the predictions of its BBC-CV estimate, so the choice among its trials does not favour it.
    """
    return {
        name: as_json(interval) for name, interval in intervals(difference(first, other), seed=seed).items()
    }


def as_json(interval: Interval) -> dict[str, Json]:
    """An interval as plain JSON."""
    return {
        "value": interval.value,
        "interval": interval.between,
        "undefined": interval.undefined,
        "se_speakers": interval.se_speakers,
        "se_folds": interval.se_folds,
    }


def ranking(runs: Mapping[str, Scored], metric: str, *, seed: int) -> list[dict[str, Any]]:
    """The runs, best first: name, value, and whether some other run is significantly better (`is_worse`).

    A run is worse where some other run's score is better by more than the half width of an interval that is wide
    enough for all comparisons of the run at once (Bonferroni): the best run is known only after a look at
    all, so a plain 95 % interval of the difference from it would call equal runs worse in one of three. The runs that are
    not worse contain the truly best one in 95 % of experiments (multiple comparisons with the best; Hsu 1981).
    """
    level = 1 - (1 - CONFIDENCE) / max(len(runs) - 1, 1)
    values = {name: _value(scored, metric) for name, scored in runs.items()}
    better = sign(metric)
    order = sorted(
        runs, key=lambda name: (np.isnan(values[name]), -better * np.nan_to_num(values[name]), name)
    )
    rows = []
    for place, name in enumerate(order):
        gains = [
            intervals(difference(runs[other], runs[name]), seed=seed, confidence=level)[metric]
            for other in order[:place]
        ]
        ends = [gain.low if better > 0 else gain.high for gain in gains]
        is_worse = any(end is not None and better * end > 0 for end in ends)
        rows.append({"name": name, "value": plain(values[name]), "is_worse": is_worse})
    return rows


def by_speaker(scored: Scored, metric: str) -> dict[str, float | None]:
    """The score of each speaker's clips; None where they do not define it."""
    each = scored.values(np.eye(len(scored.speakers)))[metric]
    return {
        str(name): None if np.isnan(value) else float(value)
        for name, value in zip(scored.speakers, each, strict=True)
    }


def wins(
    first: Mapping[str, float | None], other: Mapping[str, float | None], *, metric: str
) -> dict[str, int]:
    """Numbers of speakers on whom the first run scores better, equally and worse; `undefined` counts the rest.

    >>> wins({"ann": 0.5, "bob": 0.25, "eve": None}, {"ann": 0.25, "bob": 0.25, "eve": 1.0}, metric="cer")
    {'wins': 0, 'ties': 1, 'losses': 1, 'undefined': 1}
    """
    counts = {"wins": 0, "ties": 0, "losses": 0, "undefined": 0}
    for name, value in first.items():
        theirs = other[name]
        if value is None or theirs is None:
            counts["undefined"] += 1
        else:
            gain = sign(metric) * (value - theirs)
            counts["ties" if abs(gain) < 1e-12 else "wins" if gain > 0 else "losses"] += 1
    return counts


def _value(scored: Scored, metric: str) -> float:
    return float(scored.values(np.ones((1, len(scored.speakers))))[metric][0])
