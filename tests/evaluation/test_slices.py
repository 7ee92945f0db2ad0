"""Scores by slice against scikit-learn, gaps that are there and that are not, classes that a slice lacks."""

import json

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from w2v2.evaluation import slices
from w2v2.evaluation.slices import slice_scores

CLASSES = ["a", "b", "c"]


def made(rng, right, *, num_speakers=16, clips_each=24):
    """right gives for (speaker, clip) how often a clip is right."""
    speaker, clip = np.divmod(np.arange(num_speakers * clips_each), clips_each)
    target = clip % 3
    hit = rng.random(len(target)) < right(speaker, clip)
    predicted = np.where(hit, target, (target + rng.integers(1, 3, len(target))) % 3)
    return target, predicted, speaker, clip


def test_values_are_scored_as_scikit_learn_does_and_the_gap_is_detected():
    target, predicted, speaker, clip = made(
        np.random.default_rng(0), lambda s, c: np.where(c % 2 == 0, 0.9, 0.5)
    )
    loud = np.where(clip % 2 == 0, "loud", "soft")
    by_slice = slice_scores(target, predicted, speaker.astype(str), loud, classes=CLASSES)
    for name in ("loud", "soft"):
        rows = loud == name
        row = by_slice["values"][name]
        assert row["value"] == pytest.approx(balanced_accuracy_score(target[rows], predicted[rows]))
        assert (row["num_clips"], row["num_speakers"]) == (rows.sum(), 16)
        assert row["interval"][0] < row["value"] < row["interval"][1]
    gap = by_slice["gap"]
    assert (gap["highest"], gap["lowest"]) == ("loud", "soft")
    assert gap["value"] == pytest.approx(
        by_slice["values"]["loud"]["value"] - by_slice["values"]["soft"]["value"]
    )
    assert gap["interval"][0] > 0.2 and by_slice["p"] < 0.01 and by_slice["left_out"] == []
    assert json.loads(json.dumps(by_slice, allow_nan=False)) == by_slice


@pytest.mark.parametrize("of_speaker", [True, False])
def test_without_a_gap_p_is_uniform(of_speaker, monkeypatch):
    monkeypatch.setattr(slices, "NUM_PERMUTATIONS", 99)
    rng, p_values = np.random.default_rng(1), []
    for _ in range(80):
        ease = rng.uniform(0.3, 0.9, 16)
        target, predicted, speaker, clip = made(rng, lambda s, c, ease=ease: ease[s])
        values = np.where((speaker if of_speaker else clip // 3) % 2 == 0, "x", "y")
        p_values.append(slice_scores(target, predicted, speaker.astype(str), values, classes=CLASSES)["p"])
    assert 0 <= np.mean(np.array(p_values) <= 0.1) <= 0.2 and 0.4 < np.mean(p_values) < 0.6


def test_clips_of_speakers_are_not_independent_so_few_speakers_show_no_gap():
    # Two groups of three speakers, one of them with two hard ones: by clips the gap would be beyond doubt.
    ease = np.array([0.9, 0.8, 0.9, 0.4, 0.9, 0.4])
    target, predicted, speaker, _ = made(
        np.random.default_rng(2), lambda s, c: ease[s], num_speakers=6, clips_each=60
    )
    sex = np.where(speaker < 3, "woman", "man")
    by_slice = slice_scores(target, predicted, speaker.astype(str), sex, classes=CLASSES)
    assert by_slice["gap"]["value"] > 0.15 and by_slice["p"] > 0.05
    assert by_slice["gap"]["interval"] is None and by_slice["gap"]["undefined"] == "3 speakers"


def test_values_are_compared_over_the_classes_that_each_of_them_has():
    target, predicted, speaker, clip = made(np.random.default_rng(3), lambda s, c: 0.7 + 0.0 * s)
    values = np.where(clip % 2 == 0, "strong", "normal")
    values[target == 0] = "normal"  # as RAVDESS's neutral
    by_slice = slice_scores(target, predicted, speaker.astype(str), values, classes=CLASSES)
    rows = (values == "normal") & (target != 0)
    assert by_slice["left_out"] == ["a"]
    expected = np.mean([(predicted[rows & (target == c)] == c).mean() for c in (1, 2)])
    assert by_slice["values"]["normal"]["value"] == pytest.approx(expected)


def test_what_cannot_be_compared_says_why():
    target, predicted, speaker, clip = made(np.random.default_rng(4), lambda s, c: 0.7 + 0.0 * s)
    names = speaker.astype(str)
    one = slice_scores(target, predicted, names, ["x"] * len(target), classes=CLASSES)
    assert one["undefined"] == "1 different values, wanted 2 to 20"
    apart = slice_scores(target, predicted, names, target.astype(str), classes=CLASSES)
    assert apart["undefined"] == "the values have no class in common" and apart["left_out"] == CLASSES
    slice_of_clip = np.where(clip < 4, "", np.where(clip % 2 == 0, "x", "y"))
    by_slice = slice_scores(target, predicted, names, slice_of_clip, classes=CLASSES)
    assert sum(row["num_clips"] for row in by_slice["values"].values()) == np.sum(slice_of_clip != "")
