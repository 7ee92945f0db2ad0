"""Scores of numbers are scikit-learn's, SciPy's and Lin's equation's; sums add up; intervals are a plain loop's."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from w2v2.evaluation import bootstrap, regression

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
    metrics = regression.scores(target, predicted, NAMES)
    rows = []
    for i, name in enumerate(NAMES):
        present = ~np.isnan(target[:, i])
        rows.append(expected(target[present, i], predicted[present, i]))
        row = metrics["targets"][name]
        assert {metric: row[metric] for metric in regression.METRICS} == pytest.approx(rows[-1], rel=1e-10)
        assert (row["num_clips"], row["num_missing"]) == (present.sum(), (~present).sum())
    means = {metric: np.mean([row[metric] for row in rows]) for metric in regression.METRICS}
    assert metrics["mean"] == pytest.approx(means, rel=1e-10)
    assert metrics["num_clips"] == 67 and metrics["undefined"] == {}
    json.dumps(metrics, allow_nan=False)


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
    metrics = regression.scores(np.array(target)[:, None], np.array(predicted)[:, None], ["a"])
    row = metrics["targets"]["a"]
    assert {metric for metric in regression.METRICS if row[metric] is None} == undefined
    assert metrics["undefined"] == {"a": why}
    assert {metric for metric in regression.METRICS if metrics["mean"][metric] is None} == undefined


def test_means_are_over_the_targets_that_define_a_score():
    target, predicted, _ = random_clips(6)
    target[:, 1] = 2.0
    metrics = regression.scores(target, predicted, NAMES)
    ccc = [metrics["targets"][name]["ccc"] for name in ("valence", "tension")]
    assert (
        metrics["mean"]["ccc"] == pytest.approx(np.mean(ccc)) and metrics["targets"]["arousal"]["ccc"] is None
    )


def test_scores_of_samples_equal_a_plain_loop():
    target, predicted, speaker = random_clips(7, num_clips=43)
    # Arousal is known of two speakers: samples without them lack it.
    target[~np.isin(speaker, ["0", "1"]), 1] = np.nan
    scored = regression.by_speaker(target, predicted, speaker, NAMES)
    counts = bootstrap.drawn(7, num_samples=50, seed=9)
    values = scored.values(counts)
    speakers = np.unique(speaker)
    samples = []
    for count in counts:
        rows = np.concatenate(
            [np.tile(np.flatnonzero(speaker == s), n) for s, n in zip(speakers, count, strict=True)]
        )
        samples.append(regression.scores(target[rows], predicted[rows], NAMES))
    for metric in regression.METRICS:
        for name in NAMES:
            slow = np.array([sample["targets"][name][metric] for sample in samples], float)
            np.testing.assert_allclose(values[f"{metric}:{name}"], slow, atol=1e-9)
        lacks = np.isnan(np.array([sample["targets"]["arousal"][metric] for sample in samples], float))
        mean = np.array([sample["mean"][metric] for sample in samples], float)
        assert 0 < lacks.sum() < 50
        np.testing.assert_allclose(values[metric], np.where(lacks, np.nan, mean), atol=1e-9)


def test_intervals_of_few_speakers_are_undefined_and_stay_within_what_is_possible():
    target, predicted, _ = random_clips(8)
    speaker = np.arange(len(target)) % 9
    target[speaker > 3, 1] = np.nan
    by_metric = bootstrap.intervals(
        regression.by_speaker(target, predicted, speaker.astype(str), NAMES), seed=0
    )
    assert by_metric["ccc:arousal"].undefined == "4 speakers" and by_metric["ccc:arousal"].between is None
    assert by_metric["ccc:valence"].between is not None and by_metric["rmse:valence"].low >= 0
    exact = bootstrap.intervals(regression.by_speaker(target, target, speaker.astype(str), NAMES), seed=0)
    assert exact["ccc:valence"].value == pytest.approx(1) and exact["ccc:valence"].between is None
    assert exact["ccc:valence"].undefined == "the same in every sample of speakers"


def test_quadrants_are_those_of_the_circumplex():
    corners = np.array([[6.0, 6], [4, 6], [4, 4], [6, 4]])
    np.testing.assert_array_equal(regression.quadrant(corners, [5, 5]), range(4))
    np.testing.assert_array_equal(regression.quadrant(np.array([[5.0, 5.0]]), [5, 5]), [0])


def test_quadrants_score_clips_with_both_targets():
    target = np.array([[6.0, 6], [4, 6], [4, 4], [6, 4], [np.nan, 6], [6, np.nan]])
    predicted = np.array([[6.0, 6], [6, 6], [4, 4], [6, 4], [6, 6], [6, 6]])
    quadrants = regression.quadrants(target, predicted, ["v", "a"], midpoints=[5, 5.5])
    assert quadrants["confusion"] == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    assert quadrants["accuracy"] == quadrants["uar"] == 0.75 and quadrants["never_predicted"] == ["Q2"]
    assert quadrants["midpoints"] == {"v": 5.0, "a": 5.5} and quadrants["classes"] == ["Q1", "Q2", "Q3", "Q4"]
    assert quadrants["meaning"]["Q2"] == "low v, high a" and quadrants["meaning"]["Q4"] == "high v, low a"
    json.dumps(quadrants, allow_nan=False)
