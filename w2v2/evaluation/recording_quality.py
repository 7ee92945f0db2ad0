"""Recording quality next to the scores: its spread, whether the classes differ in it, and scores by quality.

A class that was recorded over another channel can be recognised by the channel. Clips of one speaker share a microphone
and a room, so the classes are compared by means of each speaker's clips of a class, and a permutation moves such means,
never single clips.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from w2v2.audio.quality import NARROWBAND_HZ, WIDEBAND_HZ
from w2v2.data.groups import numbered, rows_of
from w2v2.data.recording_quality import MEASURES, measured
from w2v2.data.slices import quality_slices
from w2v2.data.targets import class_numbers
from w2v2.evaluation.bootstrap import MIN_UNITS, blocks
from w2v2.evaluation.slices import slice_scores
from w2v2.json_types import Json, JsonObject
from w2v2.wording import counted

NUM_PERMUTATIONS = 1000
MANY_MEANS = 20_000
"""With more means of speakers, only a fifth of the permutations is drawn."""

CLIPPED_FRACTION = 1e-3
"""A clip counts as clipped if a larger share of its samples is."""
MAX_NARROWBAND, MAX_CLIPPED = 0.1, 0.05
"""Shares of the clips above which a page shows a warning."""
MAX_P = 0.01
MIN_DIFFERENCE = {"bandwidth_hz": 500.0, "snr_db": 6.0}
"""Significant differences between two classes from this size on show a warning."""


def recording_details(
    clips: pa.Table, *, predictions: pa.Table | None = None, classes: Sequence[str] = (), seed: int = 0
) -> dict[str, Json]:
    """`recordings` of metrics.json: spread of each measure, narrowband and clipped clips, differences between classes, scores.

    Spread and differences are computed over all clips, which have the columns MEASURES, speaker and label; `by_class` is
    empty without classes; for it, bandwidths above WIDEBAND_HZ count as WIDEBAND_HZ. `slices` has the scores of the
    clips in predictions by quality.
    """
    values = {name: measured(clips, name) for name in MEASURES}
    has_quality = ~np.isnan(values["bandwidth_hz"])
    details: dict[str, Json] = {
        "num_clips": len(clips),
        "num_measured": int(has_quality.sum()),
        "spread": {name: _spread(column) for name, column in values.items()},
        "num_narrowband": int((values["bandwidth_hz"] <= NARROWBAND_HZ).sum()),
        "num_clipped": int((values["clipping_fraction"] > CLIPPED_FRACTION).sum()),
        "by_class": {},
        "slices": {},
    }
    if not classes or not has_quality.any():
        return details
    label = class_numbers(clips["label"], classes)
    speaker = numbered(clips["speaker"])[1]
    compared = values | {"bandwidth_hz": np.minimum(values["bandwidth_hz"], WIDEBAND_HZ)}
    details["by_class"] = {
        name: class_differences(column, label, speaker, classes=classes, seed=seed)
        for name, column in compared.items()
    }
    if predictions is not None:
        details["slices"] = _scores_by_quality(predictions, clips, classes, seed=seed)
    return details


def _spread(values: Float[np.ndarray, " clips"]) -> list[float] | None:
    """The 5th, 50th and 95th percentile; None where nothing was measured."""
    measured_values = values[~np.isnan(values)]
    return np.percentile(measured_values, (5, 50, 95)).tolist() if len(measured_values) else None


def _scores_by_quality(
    predictions: pa.Table, clips: pa.Table, classes: Sequence[str], *, seed: int
) -> dict[str, Any]:
    rows = rows_of(
        clips.select(["clip_id", *(name for name in MEASURES if name in clips.column_names)]),
        predictions["clip_id"],
    )
    target, predicted = (class_numbers(predictions[name], classes) for name in ("target", "predicted"))
    fold = predictions["fold"].to_numpy() if "fold" in predictions.column_names else None
    speaker = predictions["speaker"]
    by_measure = {}
    for name, labels, values in quality_slices(rows):
        slice_ = slice_scores(target, predicted, speaker, values, classes=classes, fold=fold, seed=seed)
        if "values" in slice_:  # from the lowest quality to the highest
            slice_["values"] = {
                label: slice_["values"][label] for label in labels if label in slice_["values"]
            }
        by_measure[name] = slice_
    return by_measure


# -- classes


def class_differences(
    values: Float[np.ndarray, " clips"],
    label: Int[np.ndarray, " clips"],
    speaker: Int[np.ndarray, " clips"],
    *,
    classes: Sequence[str],
    seed: int = 0,
) -> dict[str, Json]:
    """The mean of each class, the highest and the lowest, and how often chance makes the means differ as much, as plain JSON.

    Where most speakers have clips of several classes, their means by class are compared within each speaker
    (`is_within`): the differences between speakers are taken out, and a permutation shuffles each speaker's means over
    that speaker's classes. Else speakers of one class are compared, and a permutation shuffles the classes over the
    speakers. p is (1 + permutations whose means vary at least as much) / (1 + permutations); Phipson and Smyth (2010).
    Clips without a value (NaN) do not count. `undefined` says why there is no comparison.
    """
    is_measured = ~np.isnan(values)
    means = _cell_means(
        values[is_measured], label[is_measured], speaker[is_measured], num_classes=len(classes)
    )
    num_classes_of = (~np.isnan(means)).sum(1)
    is_within = bool((num_classes_of > 1).sum() >= (num_classes_of == 1).sum())
    used = means[num_classes_of > 1] if is_within else means[num_classes_of == 1]
    if len(used) < MIN_UNITS:
        return {"undefined": counted(len(used), "speakers")}
    overall = float(np.nanmean(used))
    centred = used - (np.nanmean(used, axis=1, keepdims=True) if is_within else overall)
    centred[np.abs(centred) < 1e-9 * abs(overall)] = 0.0  # equal values, but for rounding
    has = ~np.isnan(centred)
    if has.any(0).sum() < 2:
        return {"undefined": "the speakers have one class"}
    of_class = overall + _class_means(centred, has)
    high, low = int(np.nanargmax(of_class)), int(np.nanargmin(of_class))
    return {
        "means": {name: _plain(of_class[c]) for c, name in enumerate(classes)},
        "highest": classes[high],
        "lowest": classes[low],
        "difference": float(of_class[high] - of_class[low]),
        "p": _permutation_p(centred, has, is_within=is_within, seed=seed),
        "is_within": is_within,
        "num_speakers": len(used),
    }


def _cell_means(
    values: Float[np.ndarray, " clips"],
    label: Int[np.ndarray, " clips"],
    speaker: Int[np.ndarray, " clips"],
    *,
    num_classes: int,
) -> Float[np.ndarray, "speakers classes"]:
    """The mean of each speaker's clips of each class; NaN where there are none."""
    num_speakers = int(speaker.max(initial=-1)) + 1
    cell, size = speaker * num_classes + label, num_speakers * num_classes
    counts = np.bincount(cell, minlength=size)
    sums = np.bincount(cell, values, minlength=size)
    means = np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0)
    return means.reshape(num_speakers, num_classes)


def _class_means(
    centred: Float[np.ndarray, "speakers classes"], has: Bool[np.ndarray, "speakers classes"]
) -> Float[np.ndarray, " classes"]:
    num = has.sum(0)
    sums = np.where(has, centred, 0.0).sum(0)
    return np.divide(sums, num, out=np.full(len(num), np.nan), where=num > 0)


def _permutation_p(
    centred: Float[np.ndarray, "speakers classes"],
    has: Bool[np.ndarray, "speakers classes"],
    *,
    is_within: bool,
    seed: int,
) -> float:
    rng = np.random.default_rng(seed)
    num_speakers = has.sum(0)
    # The values of all present cells, row by row: a permutation fills the same cells in another order.
    cells, values = np.nonzero(has), centred[has]

    def variation(permuted: Float[np.ndarray, "permutations cells"]) -> Float[np.ndarray, " permutations"]:
        shape = len(permuted), len(num_speakers)
        place = np.ravel_multi_index((np.arange(len(permuted))[:, None], cells[1]), shape)
        sums = np.bincount(place.ravel(), permuted.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
        return (sums**2 / np.maximum(num_speakers, 1)).sum(1)

    def shuffled() -> Float[np.ndarray, " cells"]:
        if not is_within:
            return rng.permutation(values)
        return values[np.argsort(cells[0] + rng.random(len(values)))]  # in each row

    num = NUM_PERMUTATIONS if len(values) <= MANY_MEANS else NUM_PERMUTATIONS // 5
    least = variation(values[None]) * (1 - 1e-9)
    num_as_large = 0
    for rows in blocks(num, 4 * len(values)):  # of which it holds four
        permuted = np.stack([shuffled() for _ in range(num)[rows]])
        num_as_large += int((variation(permuted) >= least).sum())
    return (1 + num_as_large) / (1 + num)


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


# -- what asks for care


def recording_warnings(recordings: JsonObject | None) -> list[str]:
    """All warnings; none for metrics of earlier versions."""
    if recordings is None:
        return []
    sentences = [channel_warning(recordings), clipping_warning(recordings), *class_warnings(recordings)]
    return [sentence for sentence in sentences if sentence]


def channel_warning(recordings: JsonObject) -> str:
    """A sentence on clips of telephone bandwidth; '' where there are few."""
    num, of = recordings["num_narrowband"], recordings["num_measured"]
    if num <= MAX_NARROWBAND * of:
        return ""
    return (
        f"{num} of {of} clips are telephone speech, whatever sampling rate their files have: nothing is above "
        f"{NARROWBAND_HZ / 1000:g} kHz. Encoders are pre-trained on wideband speech, and scores hold for this channel alone."
    )


def clipping_warning(recordings: JsonObject) -> str:
    """A sentence on clipped clips; '' where there are few."""
    num, of = recordings["num_clipped"], recordings["num_measured"]
    if num <= MAX_CLIPPED * of:
        return ""
    return f"{num} of {of} clips are clipped: their peaks are cut off flat, in over {CLIPPED_FRACTION:.1%} of their samples."


def class_warnings(recordings: JsonObject) -> list[str]:
    """Sentences on classes that differ in the channel: in bandwidth, or, where no speaker has several classes, in noise.

    Emotions differ in loudness, and so in level and in their distance from the noise, by nature: within speakers these are
    reported, not warned of.
    """
    sentences = []
    for name, least in MIN_DIFFERENCE.items():
        row = recordings["by_class"].get(name, {})
        is_leak = name == "bandwidth_hz" or not row.get("is_within", True)
        if "p" in row and is_leak and row["p"] <= MAX_P and row["difference"] >= least:
            measure = MEASURES[name]
            high, low = (measure.text(row["means"][row[end]]) for end in ("highest", "lowest"))
            sentences.append(
                f"The classes differ in {measure.name}: {row['highest']} {high}, {row['lowest']} {low} (p {row['p']:.3f}, "
                f"{permutation_text(row)}). A model can recognise them by the recording instead of the voice."
            )
    return sentences


def permutation_text(row: JsonObject) -> str:
    """The units that were permuted for an entry of `by_class`, in words."""
    num = counted(row["num_speakers"], "speakers")
    return f"permuting the classes within each of {num}" if row["is_within"] else f"permuting {num}"
