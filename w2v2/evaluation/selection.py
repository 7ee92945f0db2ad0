"""An unbiased score after a search, where the folds that score the trials also choose among them.

Bootstrap bias corrected cross-validation, BBC-CV (Tsamardinos, Greasidou and Borboudakis, Machine Learning 107,
2018), with folds as the units: folds are drawn with replacement, the trial with the highest mean on the drawn folds
is chosen, and scored on those not drawn. Six folds have 462 such samples, so all are taken, each with
its multinomial probability, and nothing is random. The folds not drawn have no part in the choice that they
score, which makes the estimate free of the optimism of the best of N.
"""

import numpy as np
from jaxtyping import Float, Int

from w2v2.evaluation.bootstrap import resamples

_TIE = 1e-12


def trial_shares(
    values: Float[np.ndarray, "trials folds"], *, seed: int
) -> Float[np.ndarray, "folds trials"]:
    """The share of each trial in predicting each fold, over all samples that leave the fold out; rows sum to 1.

    values are what the search maximises, of every complete trial and fold; there must be at least two folds. A
    sample counts by its probability over the number of folds that it leaves out, so that all samples count
    alike, as in BBC-CV. Trials that tie share a sample, so the order of trials changes nothing.

    The estimate is a score of the predictions mixed by these shares: counts are added up, ratios are taken once, macro
    F1 for each trial (`classification.scored_mixture`).
    Where folds have the same number of clips of each class, its accuracy and UAR are the mean over samples of the
    score on the folds not drawn; where they do not, no fold that lacks a class is scored over fewer classes.

    A pruned trial is no candidate: it has no score on the folds that it never ran. That the pruner saw
    the first folds leaves an optimism of at most half a point in the simulation.
    """
    num_folds = values.shape[1]
    assert num_folds > 1, values.shape
    samples = resamples(num_folds, seed=seed)
    is_out = samples.counts == 0
    num_out = is_out.sum(1)
    means = samples.counts @ values.T / num_folds
    chosen = means >= means.max(1, keepdims=True) - _TIE
    chosen_shares = chosen / chosen.sum(1, keepdims=True)
    weight = np.where(num_out > 0, samples.probability / np.maximum(num_out, 1), 0)
    shares = (is_out * weight[:, None]).T @ chosen_shares
    return shares / shares.sum(1, keepdims=True)


def chosen_on_other_folds(values: Float[np.ndarray, "trials folds"]) -> Int[np.ndarray, " folds"]:
    """For each fold the row of the trial with the highest mean on the other folds; the first among equals."""
    others = values.sum(1, keepdims=True) - values
    return np.array([int(np.flatnonzero(row >= row.max() - _TIE)[0]) for row in others.T], np.int64)
