"""Scores agree with scikit-learn and with a plain loop; confusions add up."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from w2v2.evaluation import classification

NUM_CLASSES = 5
CLASSES = ["a", "b", "c", "d", "e"]


def random_clips(seed, num_clips, num_classes=NUM_CLASSES, targets=None, predictions=None):
    rng = np.random.default_rng(seed)
    target = rng.choice(targets if targets is not None else num_classes, num_clips)
    guess = rng.choice(predictions if predictions is not None else num_classes, num_clips)
    right = np.isin(target, predictions) if predictions is not None else np.full(num_clips, True)
    return target, np.where(right & (rng.random(num_clips) < 0.5), target, guess)


def sklearn_metrics(target, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that are predicted and absent
        return {
            "accuracy": sk.accuracy_score(target, predicted),
            "uar": sk.balanced_accuracy_score(target, predicted),
            "macro_f1": sk.f1_score(target, predicted, average="macro", zero_division=0),
        }


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("targets", "predictions"),
    [(None, None), ([0, 2, 4], None), (None, [1, 3]), ([0, 1, 3], [1, 2]), ([2], [2])],
    ids=["all", "absent", "never predicted", "both", "one class"],
)
def test_scores_agree_with_sklearn(seed, targets, predictions):
    target, predicted = random_clips(seed, 211, targets=targets, predictions=predictions)
    matrix = classification.confusion(target, predicted, NUM_CLASSES)
    result = classification.scores(matrix, CLASSES)

    labels = range(NUM_CLASSES)
    np.testing.assert_array_equal(matrix, sk.confusion_matrix(target, predicted, labels=labels))
    for name, value in sklearn_metrics(target, predicted).items():
        assert result[name] == pytest.approx(value, abs=1e-12), name
    recalls = sk.recall_score(target, predicted, labels=labels, average=None, zero_division=np.nan)
    for name, value in zip(CLASSES, recalls, strict=True):
        assert (
            result["recall"][name] is None
            if np.isnan(value)
            else result["recall"][name] == pytest.approx(value)
        )
    assert result["absent"] == [c for i, c in enumerate(CLASSES) if i not in target]
    assert result["never_predicted"] == [c for i, c in enumerate(CLASSES) if i not in predicted]
    assert result["num_clips"] == 211
    assert result["confusion"] == matrix.tolist()


def test_scores_by_hand():
    result = classification.scores(np.array([[3, 1, 0], [2, 2, 0], [0, 0, 0]]), ["x", "y", "z"])
    assert result == {
        "num_clips": 8,
        "accuracy": 5 / 8,
        "uar": (3 / 4 + 2 / 4) / 2,
        "macro_f1": pytest.approx((6 / 9 + 4 / 7) / 2),
        "recall": {"x": 0.75, "y": 0.5, "z": None},
        "never_predicted": ["z"],
        "absent": ["z"],
        "confusion": [[3, 1, 0], [2, 2, 0], [0, 0, 0]],
    }


def test_scores_of_no_clips_are_none_and_all_is_json():
    result = classification.scores(
        classification.confusion(np.zeros(0, int), np.zeros(0, int), 2), ["x", "y"]
    )
    assert [result[name] for name in classification.METRICS] == [None, None, None]
    assert result["recall"] == {"x": None, "y": None}
    assert result["absent"] == result["never_predicted"] == ["x", "y"]
    assert json.loads(json.dumps(result)) == result


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4))), st.integers(0, 30))
def test_confusions_of_parts_add_up_to_that_of_the_whole(pairs, cut):
    target, predicted = np.array(pairs, int).reshape(-1, 2).T
    whole = classification.confusion(target, predicted, NUM_CLASSES)
    parts = [
        classification.confusion(target[s], predicted[s], NUM_CLASSES) for s in (slice(cut), slice(cut, None))
    ]
    np.testing.assert_array_equal(parts[0] + parts[1], whole)
    assert whole.sum() == len(pairs)


def test_confusion_of_narrow_integers_does_not_overflow():
    target = np.full(300, 99, np.int8)
    assert classification.confusion(target, target, 100)[99, 99] == 300


@pytest.mark.parametrize("wrong", [-1, NUM_CLASSES])
def test_confusion_refuses_a_class_outside_the_matrix(wrong):
    with pytest.raises(ValueError, match="invalid entry"):
        classification.confusion(np.array([0, 1]), np.array([0, wrong]), NUM_CLASSES)


def slow_bootstrap(target, predicted, speaker, *, num_samples, seed):
    """The definition, clip by clip, scored by scikit-learn."""
    speakers = sorted(set(speaker))
    clips_of = {s: [i for i, other in enumerate(speaker) if other == s] for s in speakers}
    draws = np.random.default_rng(seed).integers(len(speakers), size=(num_samples, len(speakers)))
    rows = []
    for draw in draws:
        clips = [clip for index in draw for clip in clips_of[speakers[index]]]
        rows.append(sklearn_metrics(target[clips], predicted[clips]))
    return {
        name: tuple(np.quantile([row[name] for row in rows], [0.025, 0.975]))
        for name in classification.METRICS
    }


def test_bootstrap_agrees_with_a_plain_loop():
    # Speakers of unequal size, one of them with a class nobody else has.
    target, predicted = random_clips(3, 113, targets=[0, 1, 2])
    rng = np.random.default_rng(4)
    speaker = rng.choice(["01", "02", "10", "9", "x", "y", "z"], 113, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    target[speaker == "z"] = 4
    fast = classification.bootstrap_by_speaker(
        target, predicted, list(speaker), num_classes=NUM_CLASSES, num_samples=97, seed=11
    )
    slow = slow_bootstrap(target, predicted, list(speaker), num_samples=97, seed=11)
    for name in classification.METRICS:
        assert fast[name] == pytest.approx(slow[name], abs=1e-12), name


def test_bootstrap_does_not_depend_on_the_order_of_the_clips():
    target, predicted = random_clips(5, 150)
    speaker = np.array([f"{i % 13:02}" for i in range(150)])
    order = np.random.default_rng(6).permutation(150)
    first = classification.bootstrap_by_speaker(target, predicted, speaker, num_classes=NUM_CLASSES)
    again = classification.bootstrap_by_speaker(
        target[order], predicted[order], speaker[order], num_classes=NUM_CLASSES
    )
    assert first == again


def test_bootstrap_contains_the_score_and_is_wider_than_that_of_clips():
    num_speakers, num_each = 24, 60
    rng = np.random.default_rng(7)
    target = np.tile(np.arange(60) % NUM_CLASSES, num_speakers)
    # Speakers differ in how well they are understood; their clips are not independent.
    skill = np.repeat(rng.uniform(0.2, 0.95, num_speakers), num_each)
    predicted = np.where(rng.random(len(target)) < skill, target, rng.integers(NUM_CLASSES, size=len(target)))
    speaker = np.repeat([f"{i:02}" for i in range(num_speakers)], num_each)

    point = classification.scores(classification.confusion(target, predicted, NUM_CLASSES), CLASSES)
    by_speaker = classification.bootstrap_by_speaker(target, predicted, speaker, num_classes=NUM_CLASSES)
    by_clip = classification.bootstrap_by_speaker(
        target, predicted, [str(i) for i in range(len(target))], num_classes=NUM_CLASSES
    )
    for name in classification.METRICS:
        low, high = by_speaker[name]
        assert low < point[name] < high
        assert high - low > 1.5 * (by_clip[name][1] - by_clip[name][0])
        assert high - low < 0.3


def test_bootstrap_of_one_speaker_is_none():
    target, predicted = random_clips(8, 20)
    expected = {"accuracy": None, "uar": None, "macro_f1": None}
    assert (
        classification.bootstrap_by_speaker(target, predicted, ["01"] * 20, num_classes=NUM_CLASSES)
        == expected
    )
    nobody = np.zeros(0, int)
    assert classification.bootstrap_by_speaker(nobody, nobody, [], num_classes=NUM_CLASSES) == expected
