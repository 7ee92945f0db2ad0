"""Reports of finished folds: each fold is written to the fold store, reported to the study, which may end the trial, and logged."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from w2v2.evaluation.direction import sign
from w2v2.measurements import measured
from w2v2.progress import clock, two_digits
from w2v2.search.space import Params
from w2v2.search.study import Study
from w2v2.search.summary import FOLD_METRICS, fold_metrics, fold_value
from w2v2.search.trial import SearchPlan
from w2v2.training.fold_result import FoldResult

logger = logging.getLogger(__name__)


class FoldReports:
    """Receives the finished folds of all trials; the folds of a trial must come in order."""

    def __init__(self, plan: SearchPlan, study: Study, *, at_once: int) -> None:
        self._plan, self._study, self._at_once = plan, study, at_once
        self._fold_store = plan.fold_store
        self._where = "" if plan.outer_fold is None else f"without fold {plan.outer_fold}: "
        self._scores: dict[int, list[float]] = {}
        self._trained = 0
        self._first: tuple[int, float] | None = None

    def add(self, number: int, score: FoldResult, *, params: Params, trained: bool) -> bool:
        """Whether the trial with these hyperparameters should stop after this fold.

        trained: whether the fold was trained now; else it is in the fold store already.
        """
        scores = self._scores.setdefault(number, [])
        if score.fold < len(scores):  # a trial that was restarted after its worker died
            return False
        if trained:
            self._fold_store.write(number, score, params=params)
            self._trained += 1
        scores.append(fold_value(score, self._plan.classes, self._plan.config.search.metric))
        prune = self._study.report(number, scores, num_folds=self._plan.num_folds)
        if prune:
            self._study.pruned(number)
        elif len(scores) == self._plan.num_folds:
            self._study.complete(number, scores)
        self._log(number, scores, score, "pruned" if prune else "")
        if self._plan.outer_fold is None:
            measured_fold(number, score, self._plan.classes)
        return prune

    def fail(self, number: int, why: str) -> None:
        """End a trial that has an error."""
        logger.warning("%strial %d failed: %s", self._where, number, why)
        self._study.failed(number, why)

    def _log(self, number: int, scores: list[float], score: FoldResult, verdict: str) -> None:
        search = self._plan.config.search
        complete = [value for value in self._study.ended.values() if value is not None]
        ended = len(self._study.ended)
        best = sign(search.metric) * max((sign(search.metric) * value for value in complete), default=0.0)
        logger.info(
            "%strial %d fold %d (%d of %d): %s %.3f, mean %.3f%s | best %s | %d of %d trials ended | %s s a fold%s",
            self._where,
            number,
            self._original(score.fold),
            len(scores),
            self._plan.num_folds,
            search.metric,
            scores[-1],
            float(np.mean(scores)),
            f", {verdict}" if verdict else "",
            f"{best:.3f}" if complete else "-",
            ended,
            search.num_trials,
            two_digits(score.seconds),
            self._left(ended),
        )

    def _original(self, fold: int) -> int:
        """The number that a fold has in the whole cross-validation."""
        outer = self._plan.outer_fold
        return fold + (outer is not None and fold >= outer)

    def _left(self, num_ended: int) -> str:
        """Seconds that the remaining folds take at the pace since the first; pruning shortens them."""
        now = time.monotonic()
        self._first = self._first or (self._trained, now)
        num_since = self._trained - self._first[0]
        under_way = sum(len(scores) for number, scores in self._scores.items() if self._study.runs(number))
        trials_left = self._plan.config.search.num_trials - num_ended
        num_left = trials_left * self._plan.num_folds - under_way
        if not num_since or num_left <= 0:
            return ""
        up_to = "up to " if self._plan.config.search.pruning != "none" else ""
        pace_s = (now - self._first[1]) / num_since
        return f", {up_to}{clock(seconds_left(num_left, pace_s, self._at_once, trials_left))} left"


def measured_fold(trial: int, score: FoldResult, classes: Sequence[str]) -> None:
    """Hand the scores and the learning curve of a fold of a trial to followers."""
    group, by_metric = f"trial-{trial:05d}", fold_metrics(score, classes)
    scores = {name: by_metric[name] for name in FOLD_METRICS if name in by_metric} | {"loss": score.loss}
    measured(group, [(score.fold, scores)])
    curve = [(point.epoch, asdict(point)) for point in score.curve]
    names = ("train_loss", "train_uar", "learning_rate")
    measured(f"{group}/fold-{score.fold:02d}", [(epoch, {n: p[n] for n in names}) for epoch, p in curve])


def seconds_left(num_folds: int, pace_s: float, at_once: int, num_trials: int) -> float:
    """Seconds until num_folds folds are done, at pace_s for each while at_once trials run; fewer trials leave workers idle.

    >>> seconds_left(12, 10.0, at_once=4, num_trials=4), seconds_left(12, 10.0, at_once=4, num_trials=2)
    (120.0, 240.0)
    """
    return num_folds * pace_s * at_once / min(at_once, num_trials)
