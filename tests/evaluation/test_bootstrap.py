"""Enumerated samples are the multinomial distribution; standard errors are those of equations; refusals."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from w2v2.errors import UserError
from w2v2.evaluation import classification
from w2v2.evaluation.bootstrap import Scored, difference, drawn, fold_of_each, intervals, resamples


def mean_scored(values, *, folds=()):
    """The mean of one number a speaker, whose standard error has an equation."""
    values = np.asarray(values, float)
    return Scored(
        speakers=np.array([f"{i:03}" for i in range(len(values))]),
        values=lambda counts: {"mean": counts @ values / counts.sum(1)},
        folds=[np.asarray(fold) for fold in folds],
        bounds={"mean": (0.0, 1.0)},
    )


def test_all_samples_of_three_units_are_those_of_a_loop_over_27():
    samples = resamples(3, seed=0)
    expected: dict[tuple, float] = {}
    for picks in product(range(3), repeat=3):
        counts = tuple(picks.count(i) for i in range(3))
        expected[counts] = expected.get(counts, 0) + 1 / 27
    assert len(samples.counts) == 10
    by_counts = dict(zip(map(tuple, samples.counts.tolist()), samples.probability.tolist(), strict=True))
    assert by_counts == pytest.approx(expected)


@pytest.mark.parametrize(("num_folds", "num_samples"), [(2, 3), (5, 126), (6, 462)])
def test_enumerated_samples_have_the_multinomial_distribution(num_folds, num_samples):
    samples = resamples(num_folds, seed=0)
    assert samples.counts.shape == (num_samples, num_folds) and (samples.counts.sum(1) == num_folds).all()
    expected = stats.multinomial.pmf(samples.counts, num_folds, np.full(num_folds, 1 / num_folds))
    np.testing.assert_allclose(samples.probability, expected)
    assert samples.probability.sum() == pytest.approx(1)


def test_of_more_than_ten_units_seeded_samples_are_drawn():
    samples = resamples(11, seed=3)
    assert samples.counts.shape == (1000, 11) and (samples.counts.sum(1) == 11).all()
    np.testing.assert_array_equal(samples.counts, resamples(11, seed=3).counts)
    assert (samples.counts != resamples(11, seed=4).counts).any()


def test_the_standard_error_of_a_mean_is_that_of_the_equation_and_the_interval_students():
    values = np.random.default_rng(0).uniform(0.3, 0.7, 24)
    interval = intervals(mean_scored(values), seed=0, num_samples=20_000)["mean"]
    error = values.std(ddof=1) / np.sqrt(24)
    assert interval.se_speakers == pytest.approx(error, rel=0.02) and interval.se_folds is None
    low, high = stats.t.interval(0.95, 23, loc=values.mean(), scale=interval.se_speakers)
    assert interval.between == pytest.approx([low, high])


def test_folds_whose_models_differ_widen_the_interval_and_the_wider_one_is_reported():
    fold = np.repeat(np.arange(6), 4)
    values = np.random.default_rng(1).uniform(0.4, 0.5, 24) + 0.1 * np.array([0, 1, 2, 0, 1, 2])[fold]
    alone = intervals(mean_scored(values), seed=0)["mean"]
    interval = intervals(mean_scored(values, folds=[fold]), seed=0)["mean"]
    means = [values[fold == k].mean() for k in range(6)]
    assert interval.se_folds == pytest.approx(np.std(means, ddof=1) / np.sqrt(6)) and alone.se_folds is None
    assert interval.between == pytest.approx(
        list(stats.t.interval(0.95, 5, values.mean(), interval.se_folds))
    )
    assert interval.se_speakers == alone.se_speakers
    # Folds that do not differ do not matter.
    flat = intervals(mean_scored(np.tile([0.4, 0.5, 0.6, 0.7], 6), folds=[fold]), seed=0)["mean"]
    assert flat.se_folds == pytest.approx(0, abs=1e-12) and flat.high - flat.low > 0.05


def test_of_few_folds_the_error_counts_with_the_degrees_of_freedom_of_the_speakers():
    fold = np.repeat(np.arange(3), 8)
    values = 0.2 + 0.2 * fold
    interval = intervals(mean_scored(values, folds=[fold]), seed=0)["mean"]
    half = stats.t.ppf(0.975, 23) * 0.2 / np.sqrt(3)
    assert interval.between == pytest.approx([0.4 - half, 0.4 + half])
    assert intervals(mean_scored(values, folds=[np.zeros(24, int)]), seed=0)["mean"].se_folds is None


@pytest.mark.parametrize("num", [1, 2, 4])
def test_fewer_than_five_speakers_have_no_interval(num):
    interval = intervals(mean_scored(np.linspace(0.2, 0.4, num)), seed=0)["mean"]
    assert interval.between is None and interval.value == pytest.approx(np.linspace(0.2, 0.4, num).mean())
    assert interval.undefined == f"{num} speaker{'s' if num > 1 else ''}"
    assert intervals(mean_scored(np.linspace(0.2, 0.4, 5)), seed=0)["mean"].between is not None


def test_intervals_stay_within_bounds_and_have_no_width_of_zero():
    interval = intervals(mean_scored([1, 1, 1, 1, 0.9, 1, 1, 1]), seed=0)["mean"]
    assert interval.high == 1.0 and interval.low < 0.99
    perfect = intervals(mean_scored(np.ones(8)), seed=0)["mean"]
    assert perfect.between is None and perfect.undefined == "the same in every sample of speakers"


def test_a_score_that_hardly_any_sample_defines_has_no_interval():
    def values(counts):
        return {"x": np.where((counts > 0).all(1), 0.5 + 0.01 * counts[:, 0], np.nan)}

    scored = Scored(speakers=np.array(list("abcdef")), values=values)
    interval = intervals(scored, seed=0)["x"]  # 6! / 6^6 = 1.5 % of the samples have all six
    assert interval.undefined == "too few speakers have each class or label" and interval.between is None
    assert 960 < interval.num_left_out < 1000


def test_a_difference_is_of_the_same_samples_and_of_the_folds_of_both():
    rng = np.random.default_rng(2)
    hard = rng.uniform(0, 0.8, 24)
    folds = np.repeat(np.arange(6), 4), np.tile(np.arange(6), 4)
    one, other = mean_scored(hard + 0.05, folds=folds[:1]), mean_scored(hard, folds=folds)
    both = difference(one, other)
    assert [fold.tolist() for fold in both.folds] == [fold.tolist() for fold in folds]
    interval = intervals(both, seed=0)["mean"]
    # What makes a speaker hard for both cancels out.
    assert (
        interval.value == pytest.approx(0.05) and interval.undefined == "the same in every sample of speakers"
    )
    noisy = intervals(difference(mean_scored(hard + rng.normal(0, 0.02, 24)), mean_scored(hard)), seed=0)
    assert noisy["mean"].se_speakers < 0.01 < intervals(mean_scored(hard), seed=0)["mean"].se_speakers


def test_a_speaker_in_two_folds_is_refused():
    with pytest.raises(UserError, match="clips of one speaker in several folds"):
        fold_of_each(np.array([0, 0, 1]), np.array([1, 2, 1]), 2)
    np.testing.assert_array_equal(fold_of_each(np.array([0, 0, 1]), np.array([7, 7, 3]), 2), [1, 0])


def test_counts_that_are_not_whole_give_the_scores_of_mixed_predictions():
    rng = np.random.default_rng(4)
    first, second = rng.integers(0, 5, (2, 8, 3, 3))
    mixed = classification.scored((first + second) / 2, np.array([str(i) for i in range(8)]))
    counts = drawn(8, num_samples=20, seed=0)
    both = classification.scored(first + second, np.array([str(i) for i in range(8)]))
    for name in classification.METRICS:
        np.testing.assert_allclose(mixed.values(counts)[name], both.values(counts)[name])
