"""Decisions on several labels: thresholds chosen on the val split, sensitivity and specificity at them, patients."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Shaped

from w2v2.data.groups import Names, numbered
from w2v2.evaluation import bootstrap, multi_label
from w2v2.evaluation.bootstrap import Scored, Values, ratio
from w2v2.evaluation.scores import columns
from w2v2.json_types import Json, JsonObject

RATES = ("sensitivity", "specificity")
Thresholds = Mapping[str, float | None]
"""The least probability at which a label counts as present; None where none was chosen."""


def chosen_threshold(
    target: Float[np.ndarray, " clips"], predicted: Float[np.ndarray, " clips"]
) -> float | None:
    """The threshold of the largest sensitivity + specificity - 1 (Youden 1950), midway between two predictions.

    Targets are 1, 0 or NaN (left out). Of several such thresholds it is the lowest, which is the most sensitive. None if
    there are no positive or no negative clips, and if no threshold separates them better than chance.
    """
    is_labelled = ~np.isnan(target)
    is_positive, values = target[is_labelled] == 1, predicted[is_labelled]
    distinct = np.unique(values)
    if is_positive.all() or not is_positive.any() or len(distinct) < 2:
        return None
    candidates = (distinct[:-1] + distinct[1:]) / 2
    missed = np.sort(values[is_positive]).searchsorted(candidates)
    rejected = np.sort(values[~is_positive]).searchsorted(candidates)
    # The index times the numbers of positive and negative clips is an integer, so ties are found exactly.
    index = rejected * is_positive.sum() - missed * (~is_positive).sum()
    best = int(index.argmax())
    return float(candidates[best]) if index[best] > 0 else None


def choose_thresholds(val: pa.Table, names: Sequence[str]) -> dict[str, float | None]:
    """The threshold of each label on the rows (target_<name>, prob_<name>) of the val split."""
    target, predicted = columns(val, "target", names), columns(val, "prob", names)
    return {name: chosen_threshold(target[:, i], predicted[:, i]) for i, name in enumerate(names)}


def at_thresholds(
    rows: pa.Table, names: Sequence[str], thresholds: Thresholds, *, seed: int
) -> dict[str, dict[str, Json]]:
    """Sensitivity and specificity of each label that has a threshold, with 95 % intervals over speakers, as plain JSON.

    rows have speaker, target_<name> (1, 0 or null: left out) and prob_<name>. A rate of no clips is None.
    """
    chosen = {name: value for name in names if (value := thresholds.get(name)) is not None}
    if not chosen or not len(rows):
        return {}
    target, predicted = columns(rows, "target", list(chosen)), columns(rows, "prob", list(chosen))
    by_name = bootstrap.intervals(
        _by_speaker(target, predicted >= np.array([*chosen.values()]), rows["speaker"], [*chosen]),
        seed=seed,
    )
    rates_by_label: dict[str, dict[str, Json]] = {}
    for i, (name, threshold) in enumerate(chosen.items()):
        row: dict[str, Json] = {"threshold": threshold}
        for rate, kind in zip(RATES, (1, 0), strict=True):
            interval = by_name[f"{rate}:{name}"]
            row |= {
                rate: interval.value,
                f"{rate}_interval": interval.between,
                f"{rate}_undefined": interval.undefined,
            }
            row[f"num_{'positive' if kind else 'negative'}"] = int((target[:, i] == kind).sum())
        rates_by_label[name] = row
    return rates_by_label


def _by_speaker(
    target: Float[np.ndarray, "clips labels"],
    is_present: Shaped[np.ndarray, "clips labels"],
    speaker: Names,
    names: Sequence[str],
) -> Scored:
    """Both rates of each label, of any sample of the speakers."""
    speakers, group = numbered(speaker)
    # Right and all, of the clips with a label and of those without.
    sums = np.zeros((4, len(speakers), len(names)))
    for row, cells in enumerate(
        (is_present & (target == 1), target == 1, ~is_present & (target == 0), target == 0)
    ):
        np.add.at(sums[row], group, cells)

    def values(counts: Shaped[np.ndarray, "samples speakers"]) -> Values:
        right, with_label, right_without, without = (counts @ part for part in sums)
        rates = {"sensitivity": ratio(right, with_label), "specificity": ratio(right_without, without)}
        return {f"{rate}:{name}": rates[rate][:, i] for rate in RATES for i, name in enumerate(names)}

    return Scored(
        speakers=speakers,
        values=values,
        bounds={f"{rate}:{name}": (0.0, 1.0) for rate in RATES for name in names},
        num_speakers={
            f"{rate}:{name}": int((sums[1 + 2 * r, :, i] > 0).sum())
            for r, rate in enumerate(RATES)
            for i, name in enumerate(names)
        },
    )


def by_patient(rows: pa.Table, names: Sequence[str]) -> tuple[pa.Table, dict[str, list[str]]]:
    """One row per speaker with mean probabilities over the recordings, and the speakers with contradicting targets by label.

    A speaker has the target of the recordings that have one; if these differ it is null, so that the speaker is left
    out of that label.
    """
    target, predicted = columns(rows, "target", names), columns(rows, "prob", names)
    speakers, group = numbered(rows["speaker"])
    table: dict[str, pa.Array | np.ndarray | list[str]] = {
        "clip_id": speakers.tolist(),
        "speaker": speakers.tolist(),
    }
    contradictory: dict[str, list[str]] = {}
    for i, name in enumerate(names):
        targets_of = [target[(group == g) & ~np.isnan(target[:, i]), i] for g in range(len(speakers))]
        is_unanimous = [len(np.unique(values)) == 1 for values in targets_of]
        table[f"target_{name}"] = pa.array(
            [values[0] if agree else None for values, agree in zip(targets_of, is_unanimous, strict=True)],
            pa.float64(),
        )
        table[f"prob_{name}"] = np.bincount(group, predicted[:, i]) / np.bincount(group)
        if contradicting := [
            str(speaker)
            for speaker, values in zip(speakers, targets_of, strict=True)
            if len(np.unique(values)) > 1
        ]:
            contradictory[name] = contradicting
    return pa.table(table), contradictory


def decision_details(
    rows: pa.Table, names: Sequence[str], *, thresholds: JsonObject | None, seed: int
) -> dict[str, Json]:
    """`decisions` and `patients` of metrics.json: scores at the thresholds, by recording and by patient.

    thresholds come from the model card: `recordings`, `patients`, and the clips that they were `chosen_on`. Patients
    have AUC and average precision as well, with intervals over patients.
    """
    kept = thresholds or {"recordings": {}, "patients": {}, "chosen_on": ""}
    whole, contradictory = by_patient(rows, names)
    target, predicted = columns(whole, "target", names), columns(whole, "prob", names)
    scores = multi_label.scores(target, predicted, names)
    by_name = bootstrap.intervals(
        multi_label.by_speaker(target, predicted, whole["speaker"], names), seed=seed
    )
    means = {
        name: {"value": scores[name], "interval": by_name[name].between, "undefined": by_name[name].undefined}
        for name in multi_label.MEANS
    }
    labels = {
        name: scores["labels"][name]
        | {"interval": by_name[f"auc:{name}"].between, "undefined": by_name[f"auc:{name}"].undefined}
        for name in names
    }
    return {
        "decisions": {
            "chosen_on": kept["chosen_on"],
            "without": [name for name in names if kept["recordings"].get(name) is None],
            "labels": at_thresholds(rows, names, kept["recordings"], seed=seed),
        },
        "patients": {
            "num_patients": len(whole),
            "contradictory": contradictory,
            "means": means,
            "labels": labels,
            "decisions": at_thresholds(whole, names, kept["patients"], seed=seed),
        },
    }


def decision_lines(metrics: JsonObject) -> list[str]:
    """Lines for the terminal on the decisions and patients that metrics has."""
    if "decisions" not in metrics:
        return []
    lines = []
    for kind, labels in (
        ("recordings", metrics["decisions"]["labels"]),
        ("patients", metrics["patients"]["decisions"]),
    ):
        for name, row in labels.items():
            rates = ", ".join(f"{rate} {_text(row, rate)}" for rate in RATES)
            lines.append(f"{name}, {kind} at {row['threshold']:.3f} or more: {rates}")
    auc = metrics["patients"]["means"]["macro_auc"]
    macro = "undefined" if auc["value"] is None else f"{auc['value']:.3f}"
    lines.append(
        f"{metrics['patients']['num_patients']} patients, by the mean of their recordings: macro AUC {macro}"
    )
    return lines + contradictions(metrics["patients"])


def contradictions(patients: JsonObject) -> list[str]:
    """For each label a sentence on the patients with contradicting recordings, who are left out of its scores."""
    return [
        f"{len(who)} patient{'s have' if len(who) > 1 else ' has'} recordings with and without {name} and "
        f"{'are' if len(who) > 1 else 'is'} left out of its scores by patient: {', '.join(who[:5])}{', ...' if len(who) > 5 else ''}"
        for name, who in patients["contradictory"].items()
    ]


def _text(row: JsonObject, rate: str) -> str:
    within = row[f"{rate}_interval"]
    value = "undefined" if row[rate] is None else f"{row[rate]:.3f}"
    return f"{value} [{within[0]:.3f}, {within[1]:.3f}]" if within else value
