"""The curve of scores by training speakers: SciPy's fit, intervals that cover, and sentences that do not overstate."""

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from w2v2.evaluation.bootstrap import Scored
from w2v2.evaluation.learning_curve import EXPONENTS, fit_power_laws, learning_curve, sentence

SIZES = [5, 10, 15, 20]


def law(n, limit, gap, exponent):
    return limit - gap * (n / 20) ** -exponent


@pytest.mark.parametrize(("limit", "gap", "exponent"), [(0.8, 0.1, 0.5), (0.95, 0.4, 0.3), (0.6, 0.02, 1.5)])
def test_a_power_law_is_recovered(limit, gap, exponent):
    exact = law(np.array(SIZES, float), limit, gap, exponent)
    laws = fit_power_laws(SIZES, exact[None])
    for size in (20, 40, 80):
        assert laws.mean_at(size)[0] == pytest.approx(law(size, limit, gap, exponent), abs=3e-3)


def test_the_regression_of_each_exponent_is_the_one_of_scipy_bounded_where_it_must_be():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.uniform(0, 1, (20, 4)), np.sort(rng.uniform(0.6, 1, (20, 4)))])
    laws, num_bounded = fit_power_laws(SIZES, scores), 0
    for row, values in enumerate(scores):
        for place, exponent in enumerate(EXPONENTS):
            x = (np.array(SIZES) / 20) ** -exponent
            bounds = ([0, -np.inf], [1, np.inf])
            theirs = lsq_linear(np.stack([np.ones(4), -x], axis=1), values, bounds=bounds, tol=1e-14)
            limit, gap = laws.limit[row, place], laws.gap[row, place]
            ours = ((limit - gap * x - values) ** 2).sum() / 2
            assert 0 <= limit <= 1 and ours == pytest.approx(theirs.cost, abs=1e-8)
            num_bounded += limit in (0, 1)
    assert 50 < num_bounded < 800
    np.testing.assert_allclose(laws.weight.sum(1), 1)


def test_nothing_is_fitted_to_nan_and_a_curve_may_fall():
    laws = fit_power_laws(SIZES, np.array([[0.5, np.nan, 0.6, 0.7], [0.7, 0.6, 0.55, 0.5]]))
    assert np.isnan(laws.mean_at(40)[0]) and laws.mean_at(40)[1] < 0.5


def made(rng, *, truth, num_speakers=24, num_folds=6, noise=0.02):
    """Scores by size: speakers who differ alike at all sizes, and errors of the models of each fold and size."""
    fold = np.arange(num_speakers) * num_folds // num_speakers
    ease = rng.normal(0, 0.08, num_speakers)

    def scored(n):
        each = truth(n) + ease + rng.normal(0, noise, num_folds)[fold] + rng.normal(0, 0.02, num_speakers)

        def values(counts):
            return {"uar": counts @ each / counts.sum(1)}

        speakers = np.array([f"{n:02}" for n in range(num_speakers)])
        return Scored(speakers=speakers, values=values, folds=[fold])

    return {n: scored(n) for n in SIZES}


@pytest.mark.parametrize("truth", [(0.8, 0.15, 0.6), (0.9, 0.3, 0.3), (0.6, 0.02, 1.5), (0.7, 0.0, 1.0)])
def test_the_interval_covers_the_gain(truth):
    rng = np.random.default_rng(1)
    true_gain = law(40, *truth) - law(20, *truth)
    inside, widths = [], []
    for _ in range(60):
        curve = learning_curve(made(rng, truth=lambda n: law(n, *truth)), metric="uar", seed=0)
        low, high = curve["gain"]["interval"]
        inside.append(low <= true_gain <= high)
        widths.append(high - low)
    assert np.mean(inside) >= 0.88 and np.median(widths) < 0.1


def test_a_flat_curve_promises_nothing_and_a_steep_one_does():
    rng = np.random.default_rng(2)
    flat = [
        sentence({"metric": "uar", **learning_curve(made(rng, truth=lambda n: 0.6), metric="uar", seed=0)})
        for _ in range(60)
    ]
    assert sum("is uncertain" in text for text in flat) >= 54
    steep = {"metric": "uar"} | learning_curve(
        made(rng, truth=lambda n: law(n, 0.9, 0.3, 0.5), noise=0.003), metric="uar", seed=0
    )
    assert sentence(steep).startswith("Twice the 20 training speakers would bring about +")
    assert [point["num_speakers"] for point in steep["points"]] == SIZES
    assert steep["doubled"]["num_speakers"] == 40
    drawn = dict(map(tuple, steep["curve"]))
    assert steep["doubled"]["value"] == pytest.approx(drawn[40.0]) and min(drawn) == 5
    low, high = steep["doubled"]["interval"]
    assert low < steep["doubled"]["value"] < high and steep["gain"]["value"] < 0.2


def test_what_is_undefined_says_why():
    rng = np.random.default_rng(3)
    few = made(rng, truth=lambda n: 0.6, num_speakers=4, num_folds=2)
    curve = {"metric": "uar", **learning_curve(few, metric="uar", seed=0)}
    assert sentence(curve) == (
        "Whether more speakers would help cannot be estimated: the gain has no interval (4 speakers)."
    )
    three = learning_curve({n: few[n] for n in SIZES[:3]}, metric="uar", seed=0)
    assert "curve" not in three and "3 numbers of speakers, wanted 4" in sentence({"metric": "uar", **three})
