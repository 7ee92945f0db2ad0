"""The Bayesian search as an Optuna study: what is tried next, who is pruned, what is known.

The study's file is the only record of the search, so a killed search resumes from it, and Optuna's own
tools open it. It records what happened: a pruned trial is PRUNED, a failed or diverged one is FAIL.
"""

import contextlib
import logging
import math
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.search.optuna_internals import running_trial
from w2v2.search.space import Params, distribution, field_at, holds
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

STUDY_NAME = "tune_folds"


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A trial to run: its number in the study and its hyperparameters by path."""

    number: int
    params: Params


class Study:
    """A study in `<run>/study.db` (SQLite), continued where it stopped."""

    def __init__(
        self,
        run: str,
        *,
        search: SearchConfig,
        space: Mapping[str, BaseDistribution],
        defaults: Params,
        seed: int,
    ) -> None:
        self._search, self._space, self._seed = search, dict(space), seed
        self._uri = storage.join(run, "study.db")
        self._path = Path(self._uri)
        self._generation = 0
        """Of the study in a bucket, as this process has read or written it last."""
        if storage.is_remote(self._uri):
            self._scratch = tempfile.TemporaryDirectory(prefix="w2v2-study-")  # as long as this lives
            self._path = Path(self._scratch.name) / "study.db"
            with contextlib.suppress(storage.NotFoundError):
                body, self._generation = storage.read_version(self._uri)
                self._path.write_bytes(body)
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            study_name=STUDY_NAME,
            storage=f"sqlite:///{self._path}",
            direction="maximize",
            pruner=_pruner(search),
            load_if_exists=True,
        )
        self._unfinished = [t for t in self.study.trials if t.state == TrialState.RUNNING]
        self._running: dict[int, optuna.Trial] = {}
        inside = all(holds(d, defaults[path]) for path, d in self._space.items() if path in defaults)
        if not self.study.trials and defaults:
            if inside:
                self.study.enqueue_trial(defaults)  # the values the user wrote are scored first
            else:
                logger.warning(
                    "the config's own values lie outside search.space, so no trial has them: %s", defaults
                )
        self._saved()

    def ask(self) -> Proposal | None:
        """The next trial: first those that a killed run left unfinished; None when all have been given out."""
        if self._unfinished:
            left = self._unfinished.pop(0)
            trial = running_trial(self.study, left)
        else:
            if sum(t.state != TrialState.WAITING for t in self.study.trials) >= self._search.num_trials:
                return None
            # Seeded by the trial's number: a search that was killed proposes what it would have proposed.
            number = len([t for t in self.study.trials if t.state != TrialState.WAITING])
            self.study.sampler = _sampler(self._search, (self._seed * 1_000_003 + number) % 2**32)
            trial = self.study.ask(self._space)
        self._running[trial.number] = trial
        self._saved()
        return Proposal(number=trial.number, params=trial.params)

    def report(self, number: int, scores: list[float], *, num_folds: int) -> bool:
        """Tell the scores of the folds done so far; whether the trial should stop here.

        Wilcoxon's pruner compares fold by fold, the others the mean so far.
        """
        trial, folds_done = self._running[number], len(scores)
        known = self.study.trials[number].intermediate_values
        if folds_done not in known:
            value = scores[-1] if self._search.pruning == "wilcoxon" else math.fsum(scores) / folds_done
            trial.report(value, step=folds_done)
            self._saved()
        replayed = folds_done < max(known, default=0)  # a resumed trial passed this fold before
        return not replayed and folds_done < num_folds and bool(trial.should_prune())

    def complete(self, number: int, scores: list[float]) -> None:
        """Tell that a trial has all its folds; its value is the mean over them."""
        self._tell(number, TrialState.COMPLETE, math.fsum(scores) / len(scores))

    def pruned(self, number: int) -> None:
        """Tell that a trial was stopped between folds."""
        self._tell(number, TrialState.PRUNED, None)

    def failed(self, number: int, why: str) -> None:
        """Tell that a trial failed or diverged, and why."""
        self._running[number].set_user_attr("error", why)
        self._tell(number, TrialState.FAIL, None)

    def runs(self, number: int) -> bool:
        """Whether the trial was handed out and has not ended."""
        return number in self._running

    def _tell(self, number: int, state: TrialState, value: float | None) -> None:
        try:
            self.study.tell(number, value, state=state)
        except ValueError as error:  # only another process can have ended it
            raise UserError(
                f"trial {number} was ended by another process: another job works on {self._uri}; let that one go on alone, "
                "or give this one a directory of its own with --run"
            ) from error
        del self._running[number]
        self._saved()

    def _saved(self) -> None:
        if not storage.is_remote(self._uri):
            return
        generation = storage.write_version(self._uri, self._path.read_bytes(), self._generation)
        if generation is None:
            raise UserError(
                f"{self._uri} was written by another process: another job works on this run; let that one end, or give "
                "this one a directory of its own with --run"
            )
        self._generation = generation


def _sampler(search: SearchConfig, seed: int) -> optuna.samplers.TPESampler:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            n_startup_trials=search.num_startup_trials, multivariate=True, constant_liar=True, seed=seed
        )


def _pruner(search: SearchConfig) -> optuna.pruners.BasePruner:
    """Steps are folds done; nobody is stopped before two of them."""
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


def open_study(config: TuneFoldsConfig) -> Study:
    """The study in the run directory, new or continued; config.search.space is written out."""
    space = config.search.space
    defaults = {path: field_at(config, path) for path in space}
    return Study(
        config.run,
        search=config.search,
        space={path: distribution(path, dimension, defaults[path]) for path, dimension in space.items()},
        defaults=defaults,
        seed=config.seed,
    )
