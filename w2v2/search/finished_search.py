"""A search whose trials have all ended, as the tables and numbers of the run directory."""

from collections.abc import Sequence
from dataclasses import dataclass

import optuna
import pyarrow as pa

from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.evaluation.bootstrap import Scored
from w2v2.evaluation.scores import scored as scored_table
from w2v2.json_types import Json, JsonObject
from w2v2.search import estimate, final_trainings, summary
from w2v2.search.final_trainings import FinalTrainings, FoldChoice
from w2v2.search.fold_store import FoldStore
from w2v2.search.recorded_scores import RecordedScores
from w2v2.wording import counted


@dataclass(frozen=True, kw_only=True)
class FinishedSearch:
    """Trials in the order of their numbers, and the scores of their finished folds."""

    config: TuneFoldsConfig
    classes: Sequence[str]
    trials: Sequence[optuna.trial.FrozenTrial]
    scores: summary.Scores
    final: FinalTrainings | None = None
    """The trainings after the search, if there were any."""

    @property
    def num_folds(self) -> int:
        """Folds of a complete trial."""
        return self.config.folds.num_folds

    @property
    def complete(self) -> list[int]:
        """Numbers of the trials that have all their folds."""
        return [t.number for t in self.trials if t.state == optuna.trial.TrialState.COMPLETE]

    def best(self) -> optuna.trial.FrozenTrial:
        """The complete trial with the best value. Raises UserError, with the first trial's error, where none is complete."""
        best = summary.best_trial(self.trials, self.config.search.metric)
        if best is None:
            errors = [t.user_attrs["error"] for t in self.trials if "error" in t.user_attrs]
            raise UserError(
                f"no trial has all its {counted(self.num_folds, 'folds')} ({counted(len(self.trials), 'trials')}); the first error: {errors[:1]}"
            )
        return best

    def predictions(self, clips: pa.Table) -> pa.Table:
        """Out-of-fold predictions of the best trial: every clip once, in the order of `clips`."""
        number = self.best().number
        folds = [self.scores[number, fold] for fold in range(self.num_folds)]
        return summary.predictions_table(folds, clips, self.classes)

    def choices(self) -> list[FoldChoice]:
        """For each fold the trial that is best on the other folds."""
        return final_trainings.choices_on_other_folds(
            self.scores,
            {t.number: t.params for t in self.trials if t.number in self.complete},
            classes=self.classes,
            metric=self.config.search.metric,
            num_folds=self.num_folds,
        )

    def final_predictions(self, clips: pa.Table) -> pa.Table | None:
        """Out-of-fold predictions of the models that were trained after the search; clips have also label."""
        return final_trainings.final_predictions(self.final, clips, self.classes) if self.final else None

    def scored(self, clips: pa.Table) -> Scored:
        """The predictions behind the estimate; clips have clip_id, speaker, fold and label.

        They come from the models trained after the search, or from BBC-CV over complete trials.
        """
        final = self.final_predictions(clips)
        if final is not None:
            return scored_table(final, "classes", self.classes)
        return estimate.search_scored(
            self.scores,
            self.complete,
            clips=clips,
            classes=self.classes,
            metric=self.config.search.metric,
            num_folds=self.num_folds,
            seed=self.config.seed,
        )

    def estimate(self, scored: Scored, *, best: JsonObject) -> dict[str, Json]:
        """`estimate` of metrics.json; scored is the result of `scored`, best are the best trial's pooled scores."""
        return estimate.estimate(
            scored,
            metric=self.config.search.metric,
            num_folds=self.num_folds,
            num_trials=len(self.trials),
            num_complete=len(self.complete),
            best=best,
            seed=self.config.seed,
            final=self.final,
        )

    def nested_score(self) -> float | None:
        """The searched metric with each fold's trial chosen on the other folds; None with fewer than two complete trials."""
        metric = self.config.search.metric
        return summary.nested_score(self.scores, self.complete, self.classes, metric, self.num_folds)


def read_finished(
    config: TuneFoldsConfig,
    classes: Sequence[str],
    study: optuna.Study,
    *,
    final: FinalTrainings | None = None,
) -> FinishedSearch:
    """The study's trials with their folds' scores from `ledger/` in the run directory."""
    trials = [t for t in study.trials if t.state != optuna.trial.TrialState.WAITING]
    numbers = [t.number for t in trials]
    scores = RecordedScores(FoldStore(config.run), numbers, config.folds.num_folds, classes=classes)
    return FinishedSearch(config=config, classes=classes, trials=trials, scores=scores, final=final)
