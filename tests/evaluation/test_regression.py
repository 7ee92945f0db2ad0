"""Scores of numbers are scikit-learn's, SciPy's and Lin's equation's; sums add up; intervals are a plain loop's."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from w2v2.evaluation import regression

NAMES = ["valence", "arousal", "tension"]


def random_clips(seed, *, num_clips=67, missing=0.2, num_speakers=7, offset=5.0):
    rng = np.random.default_rng(seed)
    target = rng.normal(offset, [1.0, 0.3, 2.0], (num_clips, 3))
    predicted = 0.4 * (target - offset) + offset + rng.normal(0.3, 0.5, target.shape)
    target[rng.random(target.shape) < missing] = np.nan
    return target, predicted, rng.integers(num_speakers, size=num_clips).astype(str)


def concordance(t, p):
    """Lin (1989), equation 2.3 with population moments."""
    covariance = np.mean((t - t.mean()) * (p - p.mean()))
    return 2 * covariance / (t.var() + p.var() + (t.mean() - p.mean()) ** 2)


def expected(t, p):
    mse = sk.mean_squared_error(t, p)
    pearson = stats.pearsonr(t, p).statistic
    return {
        "rmse": np.sqrt(mse),
        "mse": mse,
        "r2": sk.r2_score(t, p),
        "pearson": pearson,
        "ccc": concordance(t, p),
    }


@pytest.mark.parametrize("seed", range(3))
def test_each_target_and_the_means_equal_the_references(seed):
    target, predicted, _ = random_clips(seed)
    found = regression.scores(target, predicted, NAMES)
    rows = []
    for i, name in enumerate(NAMES):
        known = ~np.isnan(target[:, i])
        rows.append(expected(target[known, i], predicted[known, i]))
        row = found["targets"][name]
        assert {metric: row[metric] for metric in regression.METRICS} == pytest.approx(rows[-1], rel=1e-10)
        assert (row["num_clips"], row["num_missing"]) == (known.sum(), (~known).sum())
    means = {metric: np.mean([row[metric] for row in rows]) for metric in regression.METRICS}
    assert found["mean"] == pytest.approx(means, rel=1e-10)
    assert found["num_clips"] == 67 and found["undefined"] == {}
    json.dumps(found, allow_nan=False)


def test_sums_of_parts_are_the_sums_of_the_whole_and_any_shift_gives_the_scores():
    target, predicted, _ = random_clips(4)
    scores = regression.scores(target, predicted, NAMES)
    for shift in (np.zeros(3), np.array([5.0, -3.0, 4.0])):
        parts = [
            regression.sums(target[p], predicted[p], shift=shift)
            for p in (slice(0, 13), slice(13, 13), slice(13, 67))
        ]
        whole = regression.sums(target, predicted, shift=shift)
        np.testing.assert_allclose(sum(parts), whole, rtol=1e-12)
        for name, row in regression.from_sums(sum(parts), NAMES)["targets"].items():
            for metric in regression.METRICS:
                assert row[metric] == pytest.approx(scores["targets"][name][metric], rel=1e-9)


def test_scores_are_exact_far_from_zero():
    near, guess, _ = random_clips(5, offset=0.0, missing=0.0)
    far = regression.scores(near + 1e7, guess + 1e7, NAMES)
    for name, row in regression.scores(near, guess, NAMES)["targets"].items():
        assert far["targets"][name]["ccc"] == pytest.approx(row["ccc"], rel=1e-6)
        assert far["targets"][name]["r2"] == pytest.approx(row["r2"], rel=1e-6)


@pytest.mark.parametrize(
    ("target", "predicted", "undefined", "why"),
    [
        ([0.1] * 3, [0.3, 0.1, 0.2], {"r2", "pearson", "ccc"}, "its target is constant"),
        (
            [2.0, np.nan, np.nan],
            [1.0, 1.0, 1.0],
            {"r2", "pearson", "ccc"},
            "fewer than 2 clips have a target (1)",
        ),
        ([np.nan] * 3, [1.0, 2.0, 3.0], set(regression.METRICS), "fewer than 2 clips have a target (0)"),
        ([1.0, 2.0, 4.0], [0.7] * 3, {"pearson"}, "its predictions are constant (Pearson)"),
    ],
)
def test_what_is_undefined_is_none_with_the_reason(target, predicted, undefined, why):
    found = regression.scores(np.array(target)[:, None], np.array(predicted)[:, None], ["a"])
    row = found["targets"]["a"]
    assert {metric for metric in regression.METRICS if row[metric] is None} == undefined
    assert found["undefined"] == {"a": why}
    assert {metric for metric in regression.METRICS if found["mean"][metric] is None} == undefined


def test_means_are_over_the_targets_that_define_a_score():
    target, predicted, _ = random_clips(6)
    target[:, 1] = 2.0
    found = regression.scores(target, predicted, NAMES)
    ccc = [found["targets"][name]["ccc"] for name in ("valence", "tension")]
    assert found["mean"]["ccc"] == pytest.approx(np.mean(ccc)) and found["targets"]["arousal"]["ccc"] is None


def test_intervals_equal_a_plain_loop():
    target, predicted, speaker = random_clips(7, num_clips=43)
    # Arousal is known of two speakers: samples without them lack it.
    target[~np.isin(speaker, ["0", "1"]), 1] = np.nan
    found = regression.bootstrap_by_speaker(target, predicted, speaker, NAMES, num_samples=50, seed=9)
    speakers = np.unique(speaker)
    samples = []
    for sample in np.random.default_rng(9).integers(len(speakers), size=(50, len(speakers))):
        rows = np.concatenate([np.flatnonzero(speaker == speakers[i]) for i in sample])
        samples.append(regression.scores(target[rows], predicted[rows], NAMES))
    for name in NAMES:
        for metric in regression.METRICS:
            values = [sample["targets"][name][metric] for sample in samples]
            known = [value for value in values if value is not None]
            assert found["targets"][name][metric] == pytest.approx(tuple(np.percentile(known, [2.5, 97.5])))
        assert found["targets"][name]["num_left_out"] == 50 - len(known)
    assert found["targets"]["arousal"]["num_left_out"] > 0
    values = [sample["mean"]["ccc"] for sample in samples]
    assert found["mean"]["ccc"] == pytest.approx(tuple(np.percentile(values, [2.5, 97.5])))


def test_intervals_of_one_speaker_are_none():
    target, predicted, _ = random_clips(8)
    found = regression.bootstrap_by_speaker(target, predicted, ["s"] * len(target), NAMES)
    assert set(found["mean"].values()) == {None} and found["targets"]["valence"]["rmse"] is None


def test_quadrants_are_those_of_the_circumplex():
    corners = np.array([[6.0, 6], [4, 6], [4, 4], [6, 4]])
    np.testing.assert_array_equal(regression.quadrant(corners, [5, 5]), range(4))
    np.testing.assert_array_equal(regression.quadrant(np.array([[5.0, 5.0]]), [5, 5]), [0])


def test_quadrants_score_clips_with_both_targets():
    target = np.array([[6.0, 6], [4, 6], [4, 4], [6, 4], [np.nan, 6], [6, np.nan]])
    predicted = np.array([[6.0, 6], [6, 6], [4, 4], [6, 4], [6, 6], [6, 6]])
    found = regression.quadrants(target, predicted, ["v", "a"], midpoints=[5, 5.5])
    assert found["confusion"] == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert found["accuracy"] == found["uar"] == 0.75 and found["never_predicted"] == ["Q2"]
    assert found["midpoints"] == {"v": 5.0, "a": 5.5} and found["classes"] == ["Q1", "Q2", "Q3", "Q4"]
    assert found["meaning"]["Q2"] == "low v, high a" and found["meaning"]["Q4"] == "high v, low a"
    json.dumps(found, allow_nan=False)
