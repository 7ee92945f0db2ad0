"""Thresholds, sensitivity and specificity against scikit-learn; patients against a loop; what is contradictory is left out."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import recall_score, roc_auc_score, roc_curve

from w2v2.evaluation.decisions import (
    at_thresholds,
    by_patient,
    choose_thresholds,
    chosen_threshold,
    decision_details,
    decision_lines,
)

NAMES = ("tremor", "breathy")


def made(seed: int, *, num_speakers: int = 12, per_speaker: int = 5) -> pa.Table:
    """Recordings whose speakers have a label or not; a tenth of the targets is missing."""
    rng = np.random.default_rng(seed)
    speakers = np.repeat([f"p{i:02}" for i in range(num_speakers)], per_speaker)
    table = {"clip_id": [f"{i}.wav" for i in range(len(speakers))], "speaker": speakers.tolist()}
    for name in NAMES:
        has = np.repeat(rng.permutation(np.arange(num_speakers) % 2), per_speaker)
        labelled = rng.random(len(has)) > 0.1
        table[f"target_{name}"] = pa.array(
            [float(h) if k else None for h, k in zip(has, labelled, strict=True)]
        )
        table[f"prob_{name}"] = 1 / (1 + np.exp(-(has - 0.5 + rng.normal(0, 0.7, len(has)))))
    return pa.table(table)


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].to_numpy().astype(float)


def labelled(table: pa.Table, name: str) -> tuple[np.ndarray, np.ndarray]:
    target, predicted = column(table, f"target_{name}"), column(table, f"prob_{name}")
    return target[~np.isnan(target)].astype(int), predicted[~np.isnan(target)]


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_has_the_largest_youden_index_of_the_roc_curve(seed):
    table = made(seed)
    for name, threshold in choose_thresholds(table, NAMES).items():
        target, predicted = labelled(table, name)
        false_positive, true_positive, _ = roc_curve(target, predicted, drop_intermediate=False)
        is_present = predicted >= threshold
        youden_index = recall_score(target, is_present) + recall_score(target, is_present, pos_label=0) - 1
        assert youden_index == pytest.approx((true_positive - false_positive).max())
        assert (
            np.abs(predicted - threshold).min() > 1e-9
        )  # between predictions, so that rounding decides nothing


def test_a_case_by_hand():
    target = np.array([0, 0, 1, 0, 1, 1, np.nan])
    predicted = np.array([0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 0.35])
    # From .3 up all three with it and one of three without: 1 + 2/3 - 1; from .6 up two of three and all without: the same.
    assert chosen_threshold(target, predicted) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "target, predicted",
    [
        ([1, 1, np.nan], [0.1, 0.9, 0.3]),
        ([0, 0], [0.1, 0.9]),
        ([np.nan], [0.5]),
        ([0, 1], [0.5, 0.5]),
        ([1, 0], [0.1, 0.9]),
    ],
    ids=["all", "none", "unknown", "equal", "worse than chance"],
)
def test_no_threshold_where_nothing_is_separated(target, predicted):
    assert chosen_threshold(np.array(target, float), np.array(predicted)) is None


def test_rates_are_scikit_learns_and_their_intervals_hold_them():
    val, test = made(1), made(2)
    thresholds = choose_thresholds(val, NAMES)
    rates = at_thresholds(test, NAMES, thresholds, seed=0)
    for name in NAMES:
        target, predicted = labelled(test, name)
        row = rates[name]
        is_present = predicted >= thresholds[name]
        assert row["threshold"] == thresholds[name]
        assert row["sensitivity"] == pytest.approx(recall_score(target, is_present))
        assert row["specificity"] == pytest.approx(recall_score(target, is_present, pos_label=0))
        assert (row["num_positive"], row["num_negative"]) == (target.sum(), (1 - target).sum())
        for rate in ("sensitivity", "specificity"):
            low, high = row[f"{rate}_interval"]
            assert 0 <= low <= row[rate] <= high <= 1 and high - low > 0.01


def test_of_few_speakers_with_a_label_there_is_no_interval():
    test = made(3, num_speakers=6)  # three speakers with each label
    row = at_thresholds(test, NAMES, dict.fromkeys(NAMES, 0.5), seed=0)["tremor"]
    assert row["sensitivity_interval"] is None and row["sensitivity_undefined"] == "3 speakers"


def test_a_label_without_threshold_is_not_decided():
    assert at_thresholds(made(0), NAMES, {"tremor": 0.4, "breathy": None}, seed=0).keys() == {"tremor"}
    assert at_thresholds(made(0), NAMES, {}, seed=0) == {}


def test_patients_have_the_mean_of_their_recordings():
    table = made(4)
    patients, contradictory = by_patient(table, NAMES)
    rows = table.to_pandas()
    assert contradictory == {} and patients["speaker"].to_pylist() == sorted(set(rows["speaker"]))
    for one in patients.to_pylist():
        recordings = rows[rows["speaker"] == one["speaker"]]
        for name in NAMES:
            assert one[f"prob_{name}"] == pytest.approx(recordings[f"prob_{name}"].mean())
            targets = recordings[f"target_{name}"].dropna()
            assert one[f"target_{name}"] == (targets.iloc[0] if len(targets) else None)


def test_patients_with_contradictory_recordings_are_left_out_of_that_label_and_named():
    rows = made(5).to_pylist()
    rows[0]["target_tremor"], rows[1]["target_tremor"] = 0.0, 1.0
    table = pa.Table.from_pylist(rows)
    patients, contradictory = by_patient(table, NAMES)
    assert contradictory == {"tremor": ["p00"]}
    assert patients["target_tremor"][0].as_py() is None and patients["target_breathy"][0].as_py() is not None
    lines = decision_lines(decision_details(table, NAMES, thresholds=None, seed=0))
    assert (
        lines[-1]
        == "1 patient has recordings with and without tremor and is left out of its scores by patient: p00"
    )


def test_the_whole_by_recording_and_by_patient():
    val, test = made(1), made(2, num_speakers=20)
    kept = {
        "recordings": choose_thresholds(val, NAMES),
        "patients": choose_thresholds(by_patient(val, NAMES)[0], NAMES),
        "chosen_on": "the val split",
    }
    details = decision_details(test, NAMES, thresholds=kept, seed=0)
    patients = by_patient(test, NAMES)[0]
    for name in NAMES:
        target, predicted = labelled(patients, name)
        row = details["patients"]["labels"][name]
        assert row["auc"] == pytest.approx(roc_auc_score(target, predicted))
        assert row["auc"] > roc_auc_score(*labelled(test, name))  # a mean of five is less noisy
        assert row["interval"][0] <= row["auc"] <= row["interval"][1]
        rate = details["patients"]["decisions"][name]["sensitivity"]
        assert rate == pytest.approx(recall_score(target, predicted >= kept["patients"][name]))
    assert details["patients"]["num_patients"] == 20 and details["decisions"]["without"] == []
    lines = decision_lines(details)
    assert len(lines) == 5 and lines[0].startswith("tremor, recordings at 0.") and "specificity" in lines[0]
    assert lines[-1].startswith("20 patients, by the mean of their recordings: macro AUC 0.")


def test_a_model_without_thresholds_decides_nothing():
    details = decision_details(made(0), NAMES, thresholds=None, seed=0)
    assert details["decisions"] == {"chosen_on": "", "without": list(NAMES), "labels": {}}
    assert len(decision_lines(details)) == 1 and decision_lines({}) == []
