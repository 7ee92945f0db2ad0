"""Scores agree with scikit-learn and with a plain loop; confusions add up."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from w2v2.evaluation import classification
from w2v2.evaluation.bootstrap import drawn, intervals

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


def slow_samples(target, predicted, speaker, counts):
    """The definition, clip by clip, scored by scikit-learn; NaN in a sample that lacks a class."""
    speakers = sorted(set(speaker))
    clips_of = {s: [i for i, other in enumerate(speaker) if other == s] for s in speakers}
    rows = []
    for count in counts:
        clips = [i for s, n in zip(speakers, count, strict=True) for i in clips_of[s] * n]
        row = sklearn_metrics(target[clips], predicted[clips])
        if set(target[clips]) != set(target):
            row |= {"uar": np.nan, "macro_f1": np.nan}
        elif {*target[clips], *predicted[clips]} != {*target, *predicted}:
            row |= {"macro_f1": np.nan}
        rows.append(row)
    return {name: [row[name] for row in rows] for name in classification.METRICS}


def test_scores_of_samples_agree_with_a_plain_loop():
    # Speakers of unequal size, one of them with a class nobody else has: samples without it are left out.
    target, predicted = random_clips(3, 113, targets=[0, 1, 2])
    rng = np.random.default_rng(4)
    speaker = rng.choice(["01", "02", "10", "9", "x", "y", "z"], 113, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])
    target[speaker == "z"] = 4
    scored = classification.by_speaker(target, predicted, list(speaker), num_classes=NUM_CLASSES)
    counts = drawn(7, num_samples=97, seed=11)
    fast, slow = scored.values(counts), slow_samples(target, predicted, list(speaker), counts)
    assert scored.speakers.tolist() == sorted(set(speaker))
    for name in classification.METRICS:
        np.testing.assert_allclose(fast[name], slow[name], atol=1e-12, err_msg=name)
    assert 10 < np.isnan(fast["uar"]).sum() < 90 and not np.isnan(fast["accuracy"]).any()


def test_models_that_predict_one_class_each_have_no_better_f1_together():
    target = np.tile([0, 1], 20)
    model = np.repeat([0, 1], 20)  # each predicts the class of its number, whatever the clip
    speaker = [f"{place // 4}" for place in range(40)]
    both = classification.by_speaker(target, model, speaker, num_classes=2, model=model)
    alone = classification.by_speaker(target[:20], model[:20], speaker[:20], num_classes=2)
    value = both.values(np.ones((1, 10)))
    assert value["macro_f1"][0] == pytest.approx(1 / 3) == alone.values(np.ones((1, 5)))["macro_f1"][0]
    assert value["uar"][0] == value["accuracy"][0] == 0.5
    summed = classification.by_speaker(target, model, speaker, num_classes=2)
    assert summed.values(np.ones((1, 10)))["macro_f1"][0] == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_the_f1_of_several_models_on_the_same_clips_is_the_mean_of_theirs(seed):
    rng = np.random.default_rng(seed)
    target, speaker = rng.integers(3, size=60), rng.integers(9, size=60).astype(str)
    predicted = [
        np.where(rng.random(60) < part, target, rng.integers(3, size=60)) for part in (0.2, 0.5, 0.8)
    ]
    several = classification.by_speaker(
        np.tile(target, 3), np.concatenate(predicted), np.tile(speaker, 3),
        num_classes=3, model=np.repeat([0, 1, 2], 60),
    )  # fmt: skip
    counts = rng.integers(3, size=(20, 9))
    each = [
        classification.by_speaker(target, one, speaker, num_classes=3).values(counts) for one in predicted
    ]
    of_several = several.values(counts)
    for name in classification.METRICS:
        np.testing.assert_allclose(of_several[name], np.mean([one[name] for one in each], axis=0))


def test_a_class_of_two_speakers_that_is_never_recognised_does_not_reach_a_score_of_one():
    # Left in, samples without the class would score over fewer classes: an "interval" of [.667, 1.000].
    target = np.tile([0, 1], 24)
    predicted = target.copy()
    speaker = np.repeat([f"{i:02}" for i in range(24)], 2)
    target[(speaker < "02") & (target == 1)] = 2
    by_metric = intervals(classification.by_speaker(target, predicted, speaker, num_classes=3), seed=0)["uar"]
    assert by_metric.value == pytest.approx(2 / 3)
    expected = (22 / 24) ** 24  # nobody of the two is drawn
    assert by_metric.num_left_out == pytest.approx(1000 * expected, abs=35)
    assert by_metric.high is None or by_metric.high < 0.8


def test_intervals_do_not_depend_on_the_order_of_the_clips():
    target, predicted = random_clips(5, 150)
    speaker = np.array([f"{i % 13:02}" for i in range(150)])
    order = np.random.default_rng(6).permutation(150)
    first, again = (
        intervals(
            classification.by_speaker(target[o], predicted[o], speaker[o], num_classes=NUM_CLASSES), seed=0
        )
        for o in (np.arange(150), order)
    )
    assert first == again


def test_the_interval_is_wider_than_that_of_clips():
    num_speakers, num_each = 24, 60
    rng = np.random.default_rng(7)
    target = np.tile(np.arange(60) % NUM_CLASSES, num_speakers)
    # Speakers differ in how well they are understood; their clips are not independent.
    skill = np.repeat(rng.uniform(0.2, 0.95, num_speakers), num_each)
    predicted = np.where(rng.random(len(target)) < skill, target, rng.integers(NUM_CLASSES, size=len(target)))
    speaker = np.repeat([f"{i:02}" for i in range(num_speakers)], num_each)
    by_speaker, by_clip = (
        intervals(classification.by_speaker(target, predicted, of, num_classes=NUM_CLASSES), seed=0)
        for of in (speaker, [str(i) for i in range(len(target))])
    )
    for name in classification.METRICS:
        (low, high), clips = by_speaker[name].between, by_clip[name].between
        assert low < by_speaker[name].value < high < low + 0.3
        assert high - low > 1.5 * (clips[1] - clips[0])
