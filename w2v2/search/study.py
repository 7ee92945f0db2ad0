"""The Bayesian search as an Optuna study: which trial is next, which is pruned.

The study's file is what Optuna's own tools open, and what a killed search resumes from. It records what happened: a pruned trial is PRUNED, a failed or diverged one is FAIL.
"""

import logging
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.redaction import redacted
from w2v2.search.fold_store import FoldStore
from w2v2.search.optuna_internals import as_stored, running_trial
from w2v2.search.space import Params, contains, distribution, field_at
from w2v2.search.study_file import StudyFile
from w2v2.search.trial_records import TrialRecords
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to run: its number in the study and its hyperparameters by path."""

    number: int
    params: Params


class Study:
    """A study in `<run>/study.db` (SQLite), continued where it stopped.

    Each trial is recorded in `ledger/`, too. Where study.db is damaged, lost or differs from these records, it is rebuilt
    from them, so that the trials that follow are those that would have followed.

    With num_folds, ended trials with a missing or damaged fold record are continued: what is lost is trained again.

    Raises UserError where another program has study.db locked, and where it is damaged and a record is missing.
    """

    def __init__(
        self,
        run: str,
        *,
        search: SearchConfig,
        space: Mapping[str, BaseDistribution],
        defaults: Mapping[str, object],
        seed: int,
        num_folds: int = 0,
    ) -> None:
        self._search, self._space, self._seed = search, dict(space), seed
        self._file = StudyFile(run, pruner=_pruner(search), metric=search.metric)
        self._records = TrialRecords(run)
        self.study = self._file.open(self._records, self._space)
        self._pruned_before: dict[int, int] = {}
        """Of trials that were pruned and have lost a fold since: the folds after which they are pruned again."""
        if num_folds and self._reopen_trials_without_folds(FoldStore(run), num_folds):
            self.study = self._file.open(self._records, self._space)
        trials = self.trials()
        self._unfinished = [t for t in trials if t.state == TrialState.RUNNING]
        self._running: dict[int, optuna.Trial] = {}
        self._steps: dict[int, set[int]] = {}
        """Of each running trial, the folds done that the study has a value of."""
        self.ended: dict[int, float | None] = {
            t.number: t.value if t.state == TrialState.COMPLETE else None
            for t in trials
            if t.state.is_finished()
        }
        """The trials that have ended, by number, with the value of those that have all folds."""
        inside = all(contains(d, defaults[path]) for path, d in self._space.items() if path in defaults)
        if not trials and defaults:
            if inside:
                with self._file.in_use():
                    self.study.enqueue_trial(dict(defaults))  # the values the user wrote are scored first
            else:
                logger.warning(
                    "the config's own values lie outside search.space, so no trial has them: %s", defaults
                )
        self._file.save()

    def _reopen_trials_without_folds(self, fold_store: FoldStore, num_folds: int) -> bool:
        """Whether there are ended trials with a missing or damaged fold record; they are reopened, to be continued."""
        num_done = {
            trial.number: len(trial.intermediate_values)
            for trial in self.trials()
            if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
        }
        recorded = {place for place, _ in fold_store.each(num_done, num_folds)}
        lacking = {
            number: [fold for fold in range(num) if (number, fold) not in recorded]
            for number, num in num_done.items()
        }
        for trial in self.trials():
            if lost := lacking.get(trial.number):
                logger.warning("trial %d: the folds %s are lost and are trained again", trial.number, lost)
                if trial.state == TrialState.PRUNED:
                    self._pruned_before[trial.number] = num_done[trial.number]
                self._records.reopen(trial)
        return any(lacking.values())

    def trials(self) -> list[FrozenTrial]:
        """All trials, those that wait to be handed out included; to be read only."""
        with self._file.in_use():
            return self.study.get_trials(deepcopy=False)

    def ask(self) -> Proposal | None:
        """The next trial: first those that a killed run left unfinished; None when all have been given out."""
        if self._unfinished:
            left = self._unfinished.pop(0)
            trial = running_trial(self.study, left)
            self._steps[trial.number] = set(left.intermediate_values)
        else:
            number = sum(t.state != TrialState.WAITING for t in self.trials())
            if number >= self._search.num_trials:
                return None
            # Seeded by the trial's number: a search that was killed proposes what it would have proposed.
            self.study.sampler = _sampler(self._search, (self._seed * 1_000_003 + number) % 2**32)
            with self._file.in_use():
                trial = self.study.ask(self._space)
        self._running[trial.number] = trial
        self._record(trial)
        return Proposal(number=trial.number, params=trial.params)

    def report(self, number: int, scores: list[float], *, num_folds: int) -> bool:
        """Whether the trial should stop here, after its scores of the folds so far have been reported.

        Wilcoxon's pruner compares fold by fold, the others compare the mean so far.
        """
        trial, folds_done = self._running[number], len(scores)
        reported_steps = self._steps.setdefault(number, set())
        replayed = folds_done < max(reported_steps, default=0)  # a resumed trial passed this fold before
        with self._file.in_use():
            if folds_done not in reported_steps:
                value = scores[-1] if self._search.pruning == "wilcoxon" else math.fsum(scores) / folds_done
                trial.report(value, step=folds_done)
                reported_steps.add(folds_done)
            prune = not replayed and folds_done < num_folds and bool(trial.should_prune())
        prune = prune or folds_done == self._pruned_before.get(number)
        if not replayed:
            self._record(trial)
        return prune

    def complete(self, number: int, scores: list[float]) -> None:
        """Report that a trial has all its folds; its value is the mean over them. Raises ResumableError where the study cannot be written."""
        self._tell(number, TrialState.COMPLETE, math.fsum(scores) / len(scores))

    def pruned(self, number: int) -> None:
        """Report that a trial was pruned between folds. Raises ResumableError where the study cannot be written."""
        self._tell(number, TrialState.PRUNED, None)

    def failed(self, number: int, why: str) -> None:
        """Report that a trial failed or diverged, and why. Raises ResumableError where the study cannot be written."""
        with self._file.in_use():
            self._running[number].set_user_attr("error", redacted(why))
        self._tell(number, TrialState.FAIL, None)

    def runs(self, number: int) -> bool:
        """Whether the trial was handed out and has not ended."""
        return number in self._running

    def _tell(self, number: int, state: TrialState, value: float | None) -> None:
        try:
            with self._file.in_use():
                self.study.tell(number, value, state=state)
        except ValueError as error:  # only another process can have ended it
            raise UserError(
                f"trial {number} was ended by another process: another job works on {self._file.uri}; let that one end "
                "first, or give this one a directory of its own with --run"
            ) from error
        self.ended[number] = value
        self._record(self._running.pop(number))

    def _record(self, trial: optuna.Trial) -> None:
        with self._file.in_use():
            stored = as_stored(trial)
        self._records.write(stored)
        self._file.save()


def _sampler(search: SearchConfig, seed: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=search.num_startup_trials, multivariate=True, constant_liar=True, seed=seed
        )


def _pruner(search: SearchConfig) -> optuna.pruners.BasePruner:
    """The pruner of the settings; its steps are finished folds, and no trial is pruned before two of them."""
    match search.pruning:
        case "none":
            return optuna.pruners.NopPruner()
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)
        case "median":
            return optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=2)
        case "wilcoxon":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.pruners.WilcoxonPruner(p_threshold=0.15, n_startup_steps=2)


def open_study(config: TuneFoldsConfig, *, outer_fold: int | None = None) -> Study:
    """The study in the run directory, new or continued; config.search.space is written out.

    outer_fold is that of a search inside of nested cross-validation, whose study is in `<run>/nested/fold-<outer_fold>`.
    """
    space = config.search.space
    run, seed = config.run, config.seed
    if outer_fold is not None:
        run, seed = storage.join(run, "nested", f"fold-{outer_fold:02d}"), seed + 1009 * (outer_fold + 1)
    defaults = {path: field_at(config, path) for path in space}
    return Study(
        run,
        search=config.search,
        space={path: distribution(path, dimension, defaults[path]) for path, dimension in space.items()},
        defaults=defaults,
        seed=seed,
        # Of the searches without a fold only the trials' values are used; their folds are recorded in the run's own fold store.
        num_folds=config.folds.num_folds if outer_fold is None else 0,
    )
