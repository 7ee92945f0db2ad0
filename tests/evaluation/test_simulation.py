"""Simulated searches, scored by the package's own functions: bias and coverage of the estimate, false alarms.

Clips of 24 speakers in 6 folds are right where a latent normal number is positive (probit). Its variance is
split as in a wav2vec2 on RAVDESS: what a speaker, a speaker's class and a clip have in common for all models; what
a configuration has of its own with a speaker; what the model of one fold has by its seed; and the rest. The truth
is the expected UAR of the chosen configuration on new speakers with new seeds.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import norm

from w2v2.evaluation.bootstrap import Scored, difference, intervals
from w2v2.evaluation.classification import scored
from w2v2.evaluation.selection import chosen_on_other_folds, trial_shares

NUM_FOLDS, SPEAKERS_EACH = 6, 4
NUM_SPEAKERS = NUM_FOLDS * SPEAKERS_EACH
NUM_CLIPS = np.array([4] + [8] * 7)
"""Clips of each class and speaker, as in RAVDESS."""
FIRST = np.append(0, np.cumsum(NUM_CLIPS)[:-1])
CLASS = np.repeat(np.arange(8), NUM_CLIPS)
FOLD = np.repeat(np.arange(NUM_FOLDS), SPEAKERS_EACH)
NAMES = np.array([f"{i:02}" for i in range(NUM_SPEAKERS)])
SPEAKER, SPEAKER_CLASS, CLIP = 0.22, 0.45, 0.74
OWN, OWN_CLASS, SEED, SEED_CLASS = 0.07, 0.10, 0.04, 0.12
REST = np.sqrt(1 - CLIP**2)
TOTAL = np.sqrt(1 + sum(sd**2 for sd in (SPEAKER, SPEAKER_CLASS, OWN, OWN_CLASS, SEED, SEED_CLASS)))


class Corpus:
    """Speakers and clips that all models share."""

    def __init__(self, rng):
        self.rng = rng
        ease = rng.normal(0, 0.5, 8)
        self.ease = ease - ease.mean()
        self.slope = norm.pdf(self.ease / TOTAL).mean() / TOTAL
        by_class = rng.normal(0, SPEAKER, (NUM_SPEAKERS, 1)) + rng.normal(0, SPEAKER_CLASS, (NUM_SPEAKERS, 8))
        self.fixed = by_class[:, CLASS] + rng.normal(0, CLIP, (NUM_SPEAKERS, len(CLASS)))

    def truth(self, gain):
        """Expected UAR of a configuration whose UAR is about `gain` above the usual one's."""
        return norm.cdf((self.ease + gain / self.slope) / TOTAL).mean()

    def configuration(self, gain):
        """A configuration: its gain, and what it has of its own with each speaker, whatever its seeds."""
        rng = self.rng
        by_speaker = rng.normal(0, OWN, (NUM_SPEAKERS, 1)) + rng.normal(0, OWN_CLASS, (NUM_SPEAKERS, 8))
        return gain, by_speaker

    def confusions(self, configuration):
        """Out-of-fold confusion matrices by speaker of a model of its own per fold; mistakes go anywhere."""
        rng, (gain, by_speaker) = self.rng, configuration
        seed = rng.normal(0, SEED, (NUM_FOLDS, 1)) + rng.normal(0, SEED_CLASS, (NUM_FOLDS, 8))
        by_class = by_speaker + seed[FOLD] + self.ease + gain / self.slope
        latent = self.fixed + by_class[:, CLASS] + rng.normal(0, REST, self.fixed.shape)
        hits = np.add.reduceat((latent > 0).astype(np.int64), FIRST, axis=1)
        errors = rng.multinomial(NUM_CLIPS - hits, np.full(7, 1 / 7))
        whole = np.zeros((NUM_SPEAKERS, 8, 8), np.int64)
        whole[:, ~np.eye(8, dtype=bool)] = errors.reshape(NUM_SPEAKERS, 56)
        whole[:, range(8), range(8)] = hits
        return whole


@dataclass(frozen=True, kw_only=True)
class Search:
    """The complete trials of one simulated search."""

    confusions: np.ndarray
    configurations: list
    values: np.ndarray

    @property
    def best(self):
        return int(self.values.mean(1).argmax())

    def scored(self) -> Scored:
        """What the estimate is the score of."""
        shares = trial_shares(self.values, seed=0)
        return of(np.einsum("st,tsij->sij", shares[FOLD], self.confusions))

    def scored_with_new_seeds(self, corpus, *, num_seeds) -> Scored:
        """Each fold's choice on the other folds with new seeds, as search.final_seeds has them."""
        chosen = chosen_on_other_folds(self.values)
        total = np.zeros((NUM_SPEAKERS, 8, 8), np.int64)
        for trial in np.unique(chosen):
            rows = np.isin(FOLD, np.flatnonzero(chosen == trial))
            for _ in range(num_seeds):
                total[rows] += corpus.confusions(self.configurations[trial])[rows]
        return of(total)


def of(confusions):
    return scored(confusions, NAMES, folds=[FOLD])


def uar_by_fold(confusions):
    summed = confusions.reshape(NUM_FOLDS, SPEAKERS_EACH, 8, 8).sum(1)
    return (np.einsum("fii->fi", summed) / summed.sum(-1)).mean(1)


def search(corpus, *, num_trials, sd, halving):
    """Trials proposed near the best so far after five random ones; Optuna's rule of halving after two folds."""
    confusions, configurations, values, rung = [], [], [], []
    for trial in range(num_trials):
        means = np.mean(values, 1) if values else []
        centre = 0.5 * configurations[int(np.argmax(means))][0] if trial >= 5 and sd else 0.0
        configuration = corpus.configuration(centre + corpus.rng.normal(0, sd))
        matrices = corpus.confusions(configuration)
        by_fold = uar_by_fold(matrices)
        rung.append(by_fold[:2].mean())
        if not halving or rung[-1] >= sorted(rung)[-max(len(rung) // 3, 1)]:
            confusions.append(matrices)
            configurations.append(configuration)
            values.append(by_fold)
    return Search(confusions=np.array(confusions), configurations=configurations, values=np.array(values))


def simulate(*, num_trials, sd, halving, num_repetitions, seed=0):
    """Bias and coverage of the estimate and of the best of N, and how often a difference covers the true one."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(num_repetitions):
        corpus = Corpus(rng)
        outcome = search(corpus, num_trials=num_trials, sd=sd, halving=halving)
        truth, usual = corpus.truth(outcome.configurations[outcome.best][0]), corpus.truth(0.0)
        other, first = of(corpus.confusions(corpus.configuration(0.0))), of(outcome.confusions[0])
        seeds = intervals(outcome.scored_with_new_seeds(corpus, num_seeds=3), seed=0)["uar"]
        estimate = intervals(outcome.scored(), seed=0)["uar"]
        best = intervals(of(outcome.confusions[outcome.best]), seed=0)["uar"]
        tuned = intervals(difference(outcome.scored(), other), seed=0)["uar"]
        single = intervals(difference(first, other), seed=0)["uar"]
        rows.append(
            {
                "bias": estimate.value - truth,
                "covered": estimate.low <= truth <= estimate.high,
                "width": estimate.high - estimate.low,
                "seeds_bias": seeds.value - truth,
                "seeds_covered": seeds.low <= truth <= seeds.high,
                "best_bias": best.value - truth,
                "best_covered": best.low <= truth <= best.high,
                "tuned_missed": not tuned.low <= truth - usual <= tuned.high,
                "single_missed": not single.low
                <= corpus.truth(outcome.configurations[0][0]) - usual
                <= single.high,
            }
        )
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    print(num_trials, sd, halving, {name: round(100 * mean, 2) for name, mean in means.items()})
    return means


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_trials", "sd", "halving"),
    [(30, 0.0, False), (30, 0.02, True), (30, 0.06, True), (6, 0.0, False), (6, 0.02, True)],
    ids=["30 equal", "30 halved", "30 far apart halved", "6 equal", "6 halved"],
)
def test_the_estimate_is_unbiased_its_interval_covers_and_comparisons_raise_few_false_alarms(
    num_trials, sd, halving
):
    outcome = simulate(
        num_trials=num_trials,
        sd=sd,
        halving=halving,
        num_repetitions=250 if sd else 2000,  # a rate of 6 % has a standard error of half a point then
    )
    assert abs(outcome["bias"]) < 0.01 and outcome["covered"] >= 0.92
    assert abs(outcome["seeds_bias"]) < 0.01 and outcome["seeds_covered"] >= 0.92
    assert outcome["best_bias"] > outcome["bias"]
    if sd == 0:  # all configurations are equally good: what is missed is a false alarm
        assert outcome["tuned_missed"] <= 0.07 and outcome["single_missed"] <= 0.07


@pytest.mark.slow
def test_the_best_of_many_equal_trials_is_too_high_and_a_true_difference_is_detected():
    rng = np.random.default_rng(1)
    detected, best_bias = [], []
    for _ in range(150):
        corpus = Corpus(rng)
        tuned = search(corpus, num_trials=30, sd=0.0, halving=False)
        best_bias.append(tuned.values.mean(1).max() - corpus.truth(0.0))
        worse = of(corpus.confusions(corpus.configuration(-0.05)))
        detected.append(intervals(difference(tuned.scored(), worse), seed=0)["uar"].low > 0)
    print(
        f"best of 30 too high by {100 * np.mean(best_bias):.1f} points; 5 points found in {np.mean(detected):.0%}"
    )
    assert np.mean(best_bias) > 0.015 and np.mean(detected) > 0.6
