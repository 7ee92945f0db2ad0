"""Scores of parts of the clips, such as women and men, and whether parts differ by more than chance."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from w2v2.data.groups import Names, numbered
from w2v2.evaluation import classification
from w2v2.evaluation.bootstrap import Scored, Values, blocks, fold_of_each, intervals
from w2v2.evaluation.comparison import as_json
from w2v2.json_types import Json

MAX_VALUES = 20
NUM_PERMUTATIONS = 1000
_MANY_CLIPS = 50_000
_VALUE_BITS, _RANDOM_BITS = 5, 30
_STRATUM_BITS = _VALUE_BITS + _RANDOM_BITS
assert MAX_VALUES <= 2**_VALUE_BITS


@dataclass(frozen=True, kw_only=True)
class _Clips:
    """Clips of the classes that every value has, with the number of their value."""

    target: Int[np.ndarray, " clips"]
    predicted: Int[np.ndarray, " clips"]
    group: Int[np.ndarray, " clips"]
    """The number of the speaker."""
    value: Int[np.ndarray, " clips"]
    speakers: Shaped[np.ndarray, " speakers"]
    folds: Sequence[Int[np.ndarray, " speakers"]]
    num_classes: int
    num_values: int

    def confusions(
        self, part: Int[np.ndarray, " clips"], num_parts: int
    ) -> Int[np.ndarray, "parts classes classes"]:
        """One confusion matrix for each part of the clips."""
        shape = (num_parts, self.num_classes, self.num_classes)
        cells = np.ravel_multi_index((part, self.target, self.predicted), shape)
        return np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)

    def scored(self) -> list[Scored]:
        """The clips of each value, ready to be resampled on the same speakers."""
        num_speakers = len(self.speakers)
        counts = self.confusions(self.group * self.num_values + self.value, num_speakers * self.num_values)
        by_value = counts.reshape(num_speakers, self.num_values, self.num_classes, self.num_classes)
        parts = []
        for v in range(self.num_values):
            part = classification.scored(by_value[:, v], self.speakers, folds=self.folds)
            num = int((by_value[:, v].sum((1, 2)) > 0).sum())
            parts.append(replace(part, num_speakers=dict.fromkeys(classification.METRICS, num)))
        return parts


def slice_scores(
    target: Int[np.ndarray, " clips"],
    predicted: Int[np.ndarray, " clips"],
    speaker: Names,
    values: Names,
    *,
    classes: Sequence[str],
    fold: Int[np.ndarray, " clips"] | None = None,
    metric: str = "uar",
    seed: int = 0,
) -> dict[str, Any]:
    """The metric of the clips of each value, and the gap between the highest and the lowest, as plain JSON.

    All values are scored over the classes that every value has, since UAR over other classes is another metric;
    `left_out` names the other classes. `gap` has the interval of the difference between the two values, on the same
    samples of speakers. `p` is the fraction of permutations with a gap as large: the values are permuted among speakers where
    every speaker has one value, else within each speaker's clips of a class. As the permuted gap is between the highest and
    the lowest as well, p allows for the two values having been chosen for being far apart; the interval does not.
    Clips with an empty value are not scored. `undefined` says why there is no comparison.
    """
    names, number = numbered(values)
    is_kept = names != ""
    kept = names[is_kept]
    if not 2 <= len(kept) <= MAX_VALUES:
        return {"metric": metric, "undefined": f"{len(kept)} different values, wanted 2 to {MAX_VALUES}"}
    num_clips = np.bincount(number * len(classes) + target, minlength=len(names) * len(classes))
    has = num_clips.reshape(len(names), len(classes))[is_kept] > 0
    shared = np.asarray(has.all(0))
    left_out = [classes[c] for c in np.flatnonzero(np.asarray(has.any(0)) & ~shared).tolist()]
    if not shared.any():
        return {"metric": metric, "left_out": left_out, "undefined": "the values have no class in common"}
    rows = is_kept[number] & shared[target]
    every_speaker, of_clip = numbered(speaker)
    present, group = np.unique(of_clip[rows], return_inverse=True)
    clips = _Clips(
        target=target[rows],
        predicted=predicted[rows],
        group=group,
        value=(np.cumsum(is_kept) - 1)[number[rows]],
        speakers=every_speaker[present],
        folds=[] if fold is None else [fold_of_each(group, fold[rows], len(present))],
        num_classes=len(classes),
        num_values=len(kept),
    )
    return {"metric": metric, "left_out": left_out} | _compared(clips, kept.tolist(), metric, seed=seed)


def _compared(clips: _Clips, names: Sequence[str], metric: str, *, seed: int) -> dict[str, Json]:
    parts = clips.scored()
    by_name = {name: intervals(part, seed=seed)[metric] for name, part in zip(names, parts, strict=True)}
    order = sorted(range(len(names)), key=lambda v: (by_name[names[v]].value or 0.0, -v))
    low, high = order[0], order[-1]

    def gap(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        return {metric: parts[high].values(counts)[metric] - parts[low].values(counts)[metric]}

    num_least = min(parts[v].num_speakers[metric] for v in (low, high))
    of_gap = Scored(speakers=clips.speakers, values=gap, folds=clips.folds, num_speakers={metric: num_least})
    num_clips = np.bincount(clips.value, minlength=len(names))
    return {
        "values": {
            name: as_json(by_name[name])
            | {"num_clips": int(num_clips[v]), "num_speakers": parts[v].num_speakers[metric]}
            for v, name in enumerate(names)
        },
        "gap": as_json(intervals(of_gap, seed=seed)[metric]) | {"highest": names[high], "lowest": names[low]},
        "p": _permutation_p(clips, metric, seed=seed),
    }


def _permutation_p(clips: _Clips, metric: str, *, seed: int) -> float:
    """(1 + permutations with at least the gap) / (1 + permutations); Phipson and Smyth (2010)."""
    rng = np.random.default_rng(seed)
    first = np.full(len(clips.speakers), -1)
    first[clips.group] = clips.value
    if (first[clips.group] == clips.value).all():
        of_speaker = clips.confusions(clips.group, len(clips.speakers))

        def permuted() -> Int[np.ndarray, "values classes classes"]:
            values = rng.permutation(first)
            return np.stack([of_speaker[values == value].sum(0) for value in range(clips.num_values)])

    else:
        permuted = _within_strata(clips, rng)
    num = NUM_PERMUTATIONS if len(clips.value) <= _MANY_CLIPS else NUM_PERMUTATIONS // 5
    [observed] = _gaps(clips.confusions(clips.value, clips.num_values)[None], metric)
    num_larger = 0
    for block in blocks(num, clips.num_values * clips.num_classes**2):
        permutations = np.stack([permuted() for _ in range(*block.indices(num))])
        num_larger += int((_gaps(permutations, metric) >= observed - 1e-12).sum())
    return (1 + num_larger) / (1 + num)


def _within_strata(
    clips: _Clips, rng: np.random.Generator
) -> Callable[[], Int[np.ndarray, "values classes classes"]]:
    """A function that permutes the values within each speaker's clips of a class, and returns the confusions of each value."""
    stratum = clips.group * clips.num_classes + clips.target
    in_order = np.argsort(stratum, kind="stable")
    values, cells = clips.value[in_order], clips.target * clips.num_classes + clips.predicted
    num, shape = len(stratum), (clips.num_values, clips.num_classes, clips.num_classes)

    def counted(places: Int[np.ndarray, " clips"]) -> Int[np.ndarray, "values classes classes"]:
        return np.bincount(places, minlength=int(np.prod(shape))).reshape(shape).astype(np.int64)

    if num <= _MANY_CLIPS:
        by_value = values * clips.num_classes**2
        return lambda: counted(by_value + cells[np.lexsort((rng.random(num), stratum))])
    # Sorting integers made of stratum, random bits and value is several times as fast as lexsort, which sorts indices.
    numbers, sorted_cells = stratum[in_order] << _STRATUM_BITS | values, cells[in_order]

    def permuted() -> Int[np.ndarray, "values classes classes"]:
        places = rng.integers(2**_RANDOM_BITS, size=num)
        places <<= _VALUE_BITS  # in place: of a million clips each of these arrays is 8 MB
        places |= numbers
        places.sort()
        places &= 2**_VALUE_BITS - 1
        places *= clips.num_classes**2
        places += sorted_cells
        return counted(places)

    return permuted


def _gaps(
    confusions: Int[np.ndarray, "permutations values classes classes"], metric: str
) -> Float[np.ndarray, " permutations"]:
    """The gap between the highest and the lowest score of a value."""
    each = classification.metrics_of(confusions.reshape(-1, *confusions.shape[2:]))[metric]
    by_value = each.reshape(confusions.shape[:2])
    return np.nanmax(by_value, axis=1) - np.nanmin(by_value, axis=1)
