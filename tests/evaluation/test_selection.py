"""BBC-CV over folds against a case by hand, a loop over ordered draws, and invariances."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from w2v2.evaluation.selection import chosen_on_other_folds, trial_shares


def test_three_folds_and_three_trials_by_hand():
    # Trial 0 is best where fold 0 weighs most, trial 1 where fold 1 does, trial 2 on fold 2 and in between.
    values = np.array([[0.9, 0.1, 0.1], [0.1, 0.8, 0.2], [0.4, 0.4, 0.7]])
    # Ordered draws of three folds: 27. Fold 0 is out in the 8 draws of folds 1 and 2:
    #   111: trial 1, out are 0 and 2          (1 draw, half to each)
    #   222: trial 2, out are 0 and 1          (1 draw, half to each)
    #   112: .1+.1+.1, .8+.8+.2, .4+.4+.7: 1   (3 draws, all to fold 0)
    #   122: .3, 1.2, 1.8: trial 2             (3 draws)
    # Fold 1 is out in 000: trial 0 (half), 222: trial 2 (half), 002: 1.9, .4, 1.5: trial 0 (3), 022: 1.1, .5, 1.8: 2 (3)
    # Fold 2 is out in 000: 0 (half), 111: 1 (half), 001: 1.9, 1.0, 1.2: 0 (3), 011: 1.1, 1.7, 1.2: 1 (3)
    half, seven = Fraction(1, 2), Fraction(7)
    expected = [
        [0, (half + 3) / seven, (half + 3) / seven],
        [(half + 3) / seven, 0, (half + 3) / seven],
        [(half + 3) / seven, (half + 3) / seven, 0],
    ]
    np.testing.assert_allclose(trial_shares(values, seed=0), np.array(expected, float))
    # Scored by accuracy over folds of equal size: each fold by its mix of trials.
    score = np.mean([expected[f] @ values[:, f] for f in range(3)])
    assert score == pytest.approx((0.25 + 0.25 + 0.15) / 3)
    assert values.mean(1).max() == pytest.approx(0.5)


def loop(values):
    """The textbook's way: every ordered draw, the trial chosen on it scored on the folds that it lacks."""
    num_folds, scores = values.shape[1], []
    for draw in product(range(num_folds), repeat=num_folds):
        out = [f for f in range(num_folds) if f not in draw]
        if out:
            chosen = np.argmax(values[:, list(draw)].mean(1))
            scores.append(values[chosen, out].mean())
    return np.mean(scores)


@pytest.mark.parametrize(("num_trials", "num_folds"), [(2, 2), (3, 3), (7, 4), (5, 5)])
def test_the_mixed_score_is_the_mean_over_all_draws(num_trials, num_folds):
    values = np.random.default_rng(num_trials).random((num_trials, num_folds))
    shares = trial_shares(values, seed=0)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert np.mean((shares * values.T).sum(1)) == pytest.approx(loop(values))


@pytest.mark.parametrize("num_folds", [6, 12])
def test_the_order_of_trials_changes_nothing_even_where_they_tie(num_folds):
    # Values in steps of a fifth: many ties.
    values = np.random.default_rng(5).integers(0, 6, (9, num_folds)) / 5
    order = np.random.default_rng(6).permutation(9)
    np.testing.assert_allclose(trial_shares(values[order], seed=1), trial_shares(values, seed=1)[:, order])


def test_equal_trials_share_and_a_trial_that_is_best_everywhere_has_all():
    values = np.full((4, 6), 0.5)
    np.testing.assert_allclose(trial_shares(values, seed=0), 0.25)
    values[2] = 0.6
    np.testing.assert_allclose(trial_shares(values, seed=0), np.tile([0, 0, 1, 0], (6, 1)))
    np.testing.assert_allclose(trial_shares(values[:1], seed=0), 1)


def test_the_choice_on_the_other_folds_ignores_the_fold_itself():
    values = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [0.4, 0.4, 0.4]])
    np.testing.assert_array_equal(chosen_on_other_folds(values), [1, 0, 0])
    values[:, 0] += [5.0, 0.0, 0.0]
    assert chosen_on_other_folds(values)[0] == 1
