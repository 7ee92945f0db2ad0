"""The support vector machine: inner folds keep speakers apart, and a fold's machine hears nothing of it."""

import numpy as np
import pytest
from scipy import special
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from w2v2.config.baseline import SvmConfig
from w2v2.errors import UserError
from w2v2.training.svm import decisions, fit_svm_on_fold, fitted_temperature, inner_folds, machine

NUM_CLASSES, NUM_SPEAKERS, CLIPS_EACH, NUM_DESCRIPTORS = 3, 8, 6, 5
SVM = SvmConfig(c=(0.3, 3.0), gamma=(0.0, 0.05), num_inner_folds=3)


@pytest.fixture(scope="module")
def corpus():
    """Descriptors, target, speaker, fold: classes that overlap, and a shift of each speaker."""
    rng = np.random.default_rng(5)
    num_clips = NUM_SPEAKERS * CLIPS_EACH
    target = np.arange(num_clips) % NUM_CLASSES
    number = np.arange(num_clips) // CLIPS_EACH
    centres, shifts = rng.normal(size=(NUM_CLASSES, NUM_DESCRIPTORS)), rng.normal(size=(NUM_SPEAKERS, 1))
    scale = np.array([1, 100, 0.01, 10, 1])
    values = scale * (1.1 * centres[target] + shifts[number] + rng.normal(size=(num_clips, NUM_DESCRIPTORS)))
    speaker = np.array([f"s{n}" for n in number])
    return values.astype(np.float32), target, speaker, number % 4


def uar(fitted, descriptors, target):
    return balanced_accuracy_score(target, fitted.predict(descriptors))


def test_inner_folds_never_share_speakers_and_hold_out_every_clip_once(corpus):
    _, target, speaker, fold = corpus
    training_rows = np.flatnonzero(fold != 0)
    parts = inner_folds(target[training_rows], speaker[training_rows], num_folds=3, held_out=0)
    assert len(parts) == 3
    for train, test in parts:
        assert not set(speaker[training_rows][train]) & set(speaker[training_rows][test])
        assert sorted([*train, *test]) == list(range(len(training_rows)))
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(len(training_rows)))


def test_a_fold_is_what_scikit_learn_makes_of_it_by_hand(corpus):
    values, target, speaker, fold = corpus
    fit = fit_svm_on_fold(values, target, speaker, fold, 2, svm=SVM, num_classes=NUM_CLASSES)
    train, test = fold != 2, fold == 2
    splitter = StratifiedGroupKFold(3, shuffle=True, random_state=0)
    parts = list(splitter.split(values[train], target[train], speaker[train]))
    best = (-1.0, 0.0, 0.0)
    for c in SVM.c:
        for gamma in SVM.gamma:
            scores = []
            for training_rows, other in parts:
                scaler = StandardScaler().fit(values[train][training_rows])
                svc = SVC(C=c, gamma=gamma or "scale", decision_function_shape="ovr", break_ties=True)
                svc.fit(scaler.transform(values[train][training_rows]), target[train][training_rows])
                predicted = svc.predict(scaler.transform(values[train][other]))
                scores.append(balanced_accuracy_score(target[train][other], predicted))
            best = max(best, (float(np.mean(scores)), c, gamma), key=lambda row: row[0])
    assert (fit.inner_uar, fit.c, fit.gamma) == pytest.approx(best)
    scaler = StandardScaler().fit(values[train])
    svc = SVC(C=best[1], gamma=best[2] or "scale", decision_function_shape="ovr", break_ties=True)
    svc.fit(scaler.transform(values[train]), target[train])
    scaled = scaler.transform(values[test])
    assert np.array_equal(fit.probabilities.argmax(1), svc.predict(scaled))
    expected = special.softmax(svc.decision_function(scaled) / fit.temperature, axis=1)
    np.testing.assert_allclose(fit.probabilities, expected, rtol=1e-9)
    assert fit.held_out.tolist() == np.flatnonzero(test).tolist() and fit.num_train == train.sum()


def test_held_out_clips_cannot_change_how_they_are_standardised(corpus):
    values, target, speaker, fold = corpus
    changed = values.copy()
    held_out = np.flatnonzero(fold == 1)
    changed[held_out[1:]] *= 1000  # all held-out clips but one
    before, after = (
        fit_svm_on_fold(v, target, speaker, fold, 1, svm=SVM, num_classes=NUM_CLASSES)
        for v in (values, changed)
    )
    assert np.array_equal(before.probabilities[0], after.probabilities[0])
    assert (before.c, before.gamma, before.temperature) == (after.c, after.gamma, after.temperature)
    # A standardisation of all clips together would show in that one clip.
    train = fold != 1
    leaky = [
        SVC(gamma="scale").fit(scaled[train], target[train]).decision_function(scaled[held_out[:1]])
        for scaled in (StandardScaler().fit_transform(v) for v in (values, changed))
    ]
    assert np.abs(leaky[0] - leaky[1]).max() > 1e-3


def test_labels_of_the_held_out_fold_change_nothing(corpus):
    values, target, speaker, fold = corpus
    other = np.where(fold == 3, (target + 1) % NUM_CLASSES, target)
    before, after = (
        fit_svm_on_fold(values, t, speaker, fold, 3, svm=SVM, num_classes=NUM_CLASSES)
        for t in (target, other)
    )
    assert np.array_equal(before.probabilities, after.probabilities)


def test_inner_scores_are_of_machines_not_trained_on_the_speaker(corpus):
    """Labels that the speaker alone tells are learnt by heart, unless inner folds keep speakers apart."""
    rng = np.random.default_rng(0)
    number = np.arange(240) // 20
    descriptors = np.eye(12, dtype=np.float32)[number] + 0.01 * rng.normal(size=(240, 12)).astype(np.float32)
    target = (number // 2) % 3
    speaker, fold = np.array([f"s{n}" for n in number]), number % 2
    fit = fit_svm_on_fold(
        descriptors, target, speaker, fold, 0, svm=SvmConfig(num_inner_folds=2), num_classes=3
    )
    assert fit.inner_uar < 0.7


def test_temperature_minimises_the_cross_entropy():
    rng = np.random.default_rng(2)
    target = rng.integers(4, size=301)
    values = rng.normal(size=(301, 4)) + 1.5 * np.eye(4)[target]
    fitted = fitted_temperature(values, target)

    def loss(temperature: float) -> float:
        return log_loss(target, special.softmax(values / temperature, axis=1), labels=range(4))

    assert all(loss(fitted) <= loss(fitted * factor) for factor in (0.8, 0.97, 1.03, 1.25))


def test_a_class_that_was_not_trained_has_no_probability(corpus):
    values, target, _, _ = corpus
    rows = np.flatnonzero(target != 1)
    values_of = decisions(machine().fit(values[rows], target[rows]), values[:7], 4)
    assert values_of.shape == (7, 4) and np.isneginf(values_of[:, [1, 3]]).all()
    assert np.array_equal(values_of[:, 0], -values_of[:, 2])
    finite_but_untrained = np.where(np.isneginf(values_of), -np.inf, values_of)
    assert np.isfinite(fitted_temperature(finite_but_untrained, np.array([0, 1, 2, 3, 0, 2, 2])))


def test_two_classes_are_predicted_as_scikit_learn_does(corpus):
    values, target, speaker, fold = corpus
    target = (target > 0).astype(np.int64)
    fit = fit_svm_on_fold(values, target, speaker, fold, 0, svm=SVM, num_classes=2)
    settings = {"svc__C": fit.c, "svc__gamma": fit.gamma or "scale"}
    fitted = machine(settings).fit(values[fold != 0], target[fold != 0])
    assert np.array_equal(fit.probabilities.argmax(1), fitted.predict(values[fold == 0]))


@pytest.mark.parametrize(
    ("num_speakers", "num_folds", "message"),
    [
        (
            3,
            4,
            r"svm.num_inner_folds is 4 but outside fold 2 there are only 3 speakers \(s0, s1, s2\): lower",
        ),
        (12, 10, r"outside fold 2 there are no class with more than 8 clips"),
        (2, 2, r"outside fold 2 there are too few speakers of each class"),
    ],
)
def test_too_few_speakers_or_clips_are_reported(num_speakers, num_folds, message):
    number = np.arange(2 * num_speakers) // 2
    # Each speaker has one class alone.
    target = number % 3 if num_speakers == 12 else number
    speaker = np.array([f"s{n}" for n in number])
    with pytest.raises(UserError, match=message):
        inner_folds(target, speaker, num_folds=num_folds, held_out=2)
