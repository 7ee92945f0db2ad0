"""AUC and average precision are scikit-learn's, with ties and missing targets; intervals are a plain loop's."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from w2v2.evaluation import bootstrap, multi_label

NAMES = ["a", "b", "c"]


def random_clips(seed, *, num_clips=83, num_values=0, missing=0.2, num_speakers=7):
    """Targets with gaps and scores that follow them; num_values makes ties."""
    rng = np.random.default_rng(seed)
    present = rng.random((num_clips, len(NAMES))) < [0.5, 0.15, 0.8]
    scores = rng.normal(present, 1.0)
    if num_values:
        scores = np.floor(scores * num_values) / num_values
    target = np.where(rng.random(present.shape) < missing, np.nan, present)
    return target, scores, rng.integers(num_speakers, size=num_clips).astype(str)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_values", [0, 3, 1])
def test_each_label_equals_scikit_learn(seed, num_values):
    target, predicted, _ = random_clips(seed, num_values=num_values)
    metrics = multi_label.scores(target, predicted, NAMES)
    for i, name in enumerate(NAMES):
        labelled = ~np.isnan(target[:, i])
        t, p = target[labelled, i], predicted[labelled, i]
        row = metrics["labels"][name]
        assert row["auc"] == pytest.approx(sk.roc_auc_score(t, p), abs=1e-12)
        assert row["average_precision"] == pytest.approx(sk.average_precision_score(t, p), abs=1e-12)
        counts = [row[f"num_{count}"] for count in ("positive", "negative", "missing")]
        assert counts == [np.sum(t == 1), np.sum(t == 0), np.sum(~labelled)]
    json.dumps(metrics, allow_nan=False)


def test_means_equal_scikit_learn():
    target, predicted, _ = random_clips(1, num_values=4, missing=0.0)
    metrics = multi_label.scores(target, predicted, NAMES)
    for average in ("macro", "weighted"):
        expected = sk.roc_auc_score(target, predicted, average=average)
        assert metrics[f"{average}_auc"] == pytest.approx(expected, abs=1e-12)
    expected = sk.average_precision_score(target, predicted, average="macro")
    assert metrics["macro_average_precision"] == pytest.approx(expected, abs=1e-12)
    assert metrics["num_defined"] == 3 and metrics["undefined"] == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(-3, 3)), min_size=1, max_size=25))
def test_auc_is_the_fraction_of_pairs_in_order_with_ties_half(clips):
    t, p = (np.array(column, float) for column in zip(*clips, strict=True))
    pairs = [np.sign(a - b) / 2 + 0.5 for a in p[t == 1] for b in p[t == 0]]
    auc = multi_label.scores(t[:, None], p[:, None], ["a"])["labels"]["a"]["auc"]
    assert auc == (pytest.approx(np.mean(pairs), abs=1e-12) if pairs else None)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ([1, 1, 1, np.nan], "all 3 labelled clips are positive"),
        ([0, 0, np.nan, np.nan], "none of 2 labelled clips is positive"),
        ([np.nan] * 4, "no labelled clips"),
    ],
)
def test_label_with_one_kind_of_clips_is_undefined_and_left_out_of_the_means(target, why):
    both = np.array([[0, 1, 1, 0], target]).T
    predicted = np.array([[0.1, 0.7, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4]]).T
    metrics = multi_label.scores(both, predicted, ["good", "bad"])
    assert metrics["undefined"] == {"bad": why} and metrics["num_defined"] == 1
    assert metrics["labels"]["bad"]["auc"] is None and metrics["labels"]["bad"]["average_precision"] is None
    assert metrics["macro_auc"] == metrics["weighted_auc"] == metrics["labels"]["good"]["auc"] == 0.75


def test_no_clips_have_no_scores():
    metrics = multi_label.scores(np.zeros((0, 1)), np.zeros((0, 1)), ["a"])
    assert metrics["num_clips"] == 0 and metrics["macro_auc"] is None and metrics["weighted_auc"] is None


def loop(target, predicted, speaker, *, num_samples, seed):
    """Bootstrap as one would write it first: clips repeated, scikit-learn called for each sample."""
    speakers = np.unique(speaker)
    drawn = np.random.default_rng(seed).integers(len(speakers), size=(num_samples, len(speakers)))
    each, macro, weighted = [], [], []
    for sample in drawn:
        rows = np.concatenate([np.flatnonzero(speaker == speakers[i]) for i in sample])
        aucs, sizes = [], []
        for i in range(target.shape[1]):
            labelled = rows[~np.isnan(target[rows, i])]
            t, p = target[labelled, i], predicted[labelled, i]
            aucs.append(sk.roc_auc_score(t, p) if 0 < t.sum() < len(t) else np.nan)
            sizes.append(t.sum())
        ok = ~np.isnan(aucs)
        each.append(aucs)
        macro.append(np.mean(np.array(aucs)[ok]))
        weighted.append(np.average(np.array(aucs)[ok], weights=np.array(sizes)[ok]))
    return np.array(each), np.array(macro), np.array(weighted)


@pytest.mark.parametrize("cells", [2**22, 100])
def test_scores_of_samples_equal_a_plain_loop_and_undefined_ones_are_counted(cells, monkeypatch):
    monkeypatch.setattr(bootstrap, "_CELLS_AT_ONCE", cells)
    target, predicted, speaker = random_clips(3, num_clips=41, num_values=5)
    # Two speakers have the second label: samples without them lack it.
    target[:, 1] = np.isin(speaker, ["0", "1"])
    scored = multi_label.by_speaker(target, predicted, speaker, NAMES)
    values = scored.values(bootstrap.drawn(7, num_samples=60, seed=4))
    each, macro, weighted = loop(target, predicted, speaker, num_samples=60, seed=4)
    for i, name in enumerate(NAMES):
        np.testing.assert_allclose(values[f"auc:{name}"], each[:, i], atol=1e-12)
    # A mean over fewer labels is another score.
    lacks = np.isnan(each).any(1)
    assert 0 < lacks.sum() < 60
    np.testing.assert_allclose(values["macro_auc"], np.where(lacks, np.nan, macro), atol=1e-12)
    np.testing.assert_allclose(values["weighted_auc"], np.where(lacks, np.nan, weighted), atol=1e-12)
    within = bootstrap.intervals(scored, seed=4, num_samples=60)
    assert within["auc:b"].num_left_out == np.isnan(each[:, 1]).sum()
    defined = each[~np.isnan(each[:, 0]), 0]
    assert within["auc:a"].se_speakers == pytest.approx(defined.std() * np.sqrt(7 / 6))


def test_intervals_do_not_depend_on_the_order_of_clips():
    target, predicted, speaker = random_clips(5)
    order = np.random.default_rng(0).permutation(len(target))
    once, again = (
        bootstrap.intervals(multi_label.by_speaker(target[o], predicted[o], speaker[o], NAMES), seed=0)
        for o in (np.arange(len(target)), order)
    )
    assert once == again


@pytest.mark.parametrize(("num_with", "why"), [(4, "4 speakers"), (5, "")])
def test_a_label_that_few_speakers_have_has_no_interval(num_with, why):
    rng = np.random.default_rng(0)
    speaker = np.repeat(np.arange(20), 4).astype(str)
    target = np.zeros((80, 1))
    target[: 4 * num_with : 4] = 1.0  # one clip each
    by_metric = bootstrap.intervals(
        multi_label.by_speaker(target, rng.random((80, 1)), speaker, ["a"]), seed=0
    )
    for name in ("auc:a", "average_precision:a"):
        assert by_metric[name].undefined == why and (by_metric[name].between is None) == bool(why)


def test_a_label_of_few_speakers_or_of_one_kind_has_no_interval():
    target, predicted, speaker = random_clips(6)
    target[~np.isin(speaker, ["0", "1", "2"]), 1] = np.nan
    target[:, 2] = 1
    by_metric = bootstrap.intervals(multi_label.by_speaker(target, predicted, speaker, NAMES), seed=0)
    assert by_metric["auc:b"].between is None and by_metric["auc:b"].undefined == "3 speakers"
    assert by_metric["auc:c"].value is None and by_metric["auc:c"].undefined == "no clip defines the score"
    assert by_metric["auc:a"].between is not None and by_metric["macro_auc"].between is not None


def test_roc_is_scikit_learns_and_its_area_the_auc():
    target, predicted, _ = random_clips(7, num_values=4)
    false, true = multi_label.roc(target[:, 0], predicted[:, 0])
    labelled = ~np.isnan(target[:, 0])
    expected = sk.roc_curve(target[labelled, 0], predicted[labelled, 0], drop_intermediate=False)
    np.testing.assert_allclose([false, true], expected[:2])
    auc = multi_label.scores(target, predicted, NAMES)["labels"]["a"]["auc"]
    assert np.trapezoid(true, false) == pytest.approx(auc)
