"""Models that are trained after a search, so that no scored clip has a part in the choice of the model that predicts it.

Each held-out fold is predicted by models with the hyperparameters that were chosen without it: by the trial that is
best on the other folds (search.final_seeds), or by a search of its own on the speakers of the other folds
(search.nested). With new seeds, the score does not depend on a lucky training of the chosen trial, and the spread
between seeds is known.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.evaluation import scores as task_scores
from w2v2.evaluation.classification import METRICS
from w2v2.evaluation.selection import chosen_on_other_folds
from w2v2.json_types import Json
from w2v2.search.fold_store import FoldStore
from w2v2.search.space import Params, settings_of_trial
from w2v2.search.summary import Scores, fold_metrics, fold_values, predictions_table
from w2v2.search.trial import SearchPlan
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.training.fold_result import DivergenceError, FoldResult

logger = logging.getLogger(__name__)

FILE = "final_predictions"
"""The table of the run directory with the predictions of these models."""


@dataclass(frozen=True, kw_only=True)
class FoldChoice:
    """The hyperparameters whose models predict a fold."""

    fold: int
    trial: int
    """The trial that has them: of the search, or in nested cross-validation of the search without this fold."""
    params: Params


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training: settings, the plan whose clips and seeds it has, and the fold that is held out."""

    settings: TuneFoldsConfig
    plan: SearchPlan
    fold: int


@runtime_checkable
class Train(Protocol):
    """Runs trainings, side by side where there is room."""

    def __call__(self, trainings: Sequence[Training], *, on_done: Callable[[int, FoldResult], None]) -> None:
        """Call on_done(index, score) as each ends; raises DivergenceError where one diverges."""
        ...


@dataclass(frozen=True, kw_only=True)
class FinalTrainings:
    """The trainings after a search, finished."""

    choices: Sequence[FoldChoice]
    """One for each fold, in order."""
    scores: Mapping[tuple[int, int], FoldResult]
    """The scores by replicate (the number of the seed) and fold."""
    is_nested: bool
    """Whether each choice was made by a search without the fold."""

    @property
    def replicates(self) -> list[int]:
        """The numbers of the seeds; 0 is the seed of the search."""
        return sorted({replicate for replicate, _ in self.scores})


def choices_on_other_folds(
    scores: Scores,
    params: Mapping[int, Params],
    *,
    classes: Sequence[str],
    metric: str,
    num_folds: int,
) -> list[FoldChoice]:
    """For each fold the trial that is best on the other folds; params has the hyperparameters of every complete trial."""
    complete = sorted(params)
    rows = chosen_on_other_folds(fold_values(scores, complete, classes, metric, num_folds))
    trials = [complete[row] for row in rows]
    return [FoldChoice(fold=f, trial=trial, params=params[trial]) for f, trial in enumerate(trials)]


def train_choices(plan: SearchPlan, choices: Sequence[FoldChoice], *, train: Train) -> FinalTrainings:
    """Every choice trained on the other folds with every seed; what the fold store has is not trained again.

    Raises UserError where a training diverges.
    """
    search = plan.config.search
    fold_store = FoldStore(plan.run, series="nested" if search.nested else "final")
    wanted = [(replicate, choice) for replicate in search.replicates for choice in choices]
    recorded = [fold_store.read(replicate, choice.fold, params=choice.params) for replicate, choice in wanted]
    done = {(r, c.fold): score for (r, c), score in zip(wanted, recorded, strict=True) if score is not None}
    todo = [(replicate, choice) for replicate, choice in wanted if (replicate, choice.fold) not in done]
    logger.info("final trainings: %d of %d are done", len(done), len(wanted))

    def record(index: int, score: FoldResult) -> None:
        replicate, choice = todo[index]
        fold_store.write(replicate, score, params=choice.params)
        done[replicate, choice.fold] = score
        value = fold_metrics(score, plan.classes)[search.metric]
        text = "undefined" if value is None else f"{value:.3f}"
        logger.info(
            "final training %d of %d: fold %d predicted by the settings of trial %d%s, seed %d: %s %s",
            *(len(done), len(wanted), choice.fold, choice.trial),
            *(" of its own search" if search.nested else "", replicate, search.metric, text),
        )

    try:
        train([_training(plan, *training) for training in todo], on_done=record)
    except DivergenceError as error:
        raise UserError(
            f"a training with a new seed diverged ({' '.join(str(error).split())[:200]}), with settings that no fold of their trial "
            "diverged with: set --optim.clip_norm or lower the learning rates in search.space, in a run of its own, or "
            "leave out --search.final_seeds and --search.nested"
        ) from error
    return FinalTrainings(choices=choices, scores=done, is_nested=search.nested)


def recorded_final(plan: SearchPlan, choices: Sequence[FoldChoice]) -> FinalTrainings | None:
    """The trainings that an earlier session of the run has finished after the search; None unless they belong to these choices.

    The choices of nested cross-validation are read from its records; they belong to searches with the number of trials
    at that time.
    """
    try:
        metrics = run_directory.read_metrics(plan.run)
    except storage.NotFoundError:
        metrics = {}
    except storage.DamagedError as error:
        logger.warning(
            "%s; what an earlier session trained after the search counts again with its --search.final_seeds or --search.nested",
            error,
        )
        metrics = {}
    if not (final := metrics.get("final")):
        return None
    if final["is_nested"]:
        is_same_search = metrics["selection"]["num_trials"] == plan.config.search.num_trials
        choices = [FoldChoice(**choice) for choice in final["choices"]] if is_same_search else []
    fold_store = FoldStore(plan.run, series="nested" if final["is_nested"] else "final")
    wanted = [(replicate, choice) for replicate in final["seeds"] for choice in choices]
    recorded = [fold_store.read(replicate, choice.fold, params=choice.params) for replicate, choice in wanted]
    done = {(r, c.fold): score for (r, c), score in zip(wanted, recorded, strict=True) if score is not None}
    if not done or len(done) < len(wanted):
        flag = "nested" if final["is_nested"] else "final_seeds"
        logger.warning(
            "the first number is again that of the search: the models that --search.%s trained before belong to "
            "other hyperparameters than the search now chooses; give --search.%s again to train models with these",
            *(flag, flag),
        )
        return None
    return FinalTrainings(choices=choices, scores=done, is_nested=final["is_nested"])


def _training(plan: SearchPlan, replicate: int, choice: FoldChoice) -> Training:
    settings = settings_of_trial(plan.config, choice.params)
    return Training(settings=settings, plan=replace(plan, replicate=replicate), fold=choice.fold)


def final_predictions(final: FinalTrainings, clips: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Out-of-fold predictions by the models of all seeds: every clip once for each, in the manifest's order.

    The columns are the same as in predictions.parquet, with `seed` and the `trial` whose hyperparameters the model has.
    """
    trials = np.array([choice.trial for choice in final.choices])
    tables = []
    for replicate in final.replicates:
        fold_scores = [final.scores[replicate, choice.fold] for choice in final.choices]
        table = predictions_table(fold_scores, clips, classes)
        table = table.append_column("seed", pa.array(np.full(len(table), replicate)))
        tables.append(table.append_column("trial", pa.array(trials[table["fold"].to_numpy()])))
    return pa.concat_tables(tables)


def seed_averages(predictions: pa.Table, classes: Sequence[str], *, num_seeds: int) -> pa.Table:
    """Predictions of ensembles of num_seeds seeds: for each ensemble every clip once, with the mean of the members' probabilities.

    predictions come from final_predictions. An ensemble has seeds that follow each other, and after the last seed comes
    the first, so that each seed is in the same number of ensembles: with three seeds the ensembles of two are 1 and 2,
    2 and 3, 3 and 1. With num_seeds or fewer seeds there is one ensemble of all. The column `seed` has the first seed
    of the ensemble.
    """
    seeds = sorted(predictions["seed"].unique().to_pylist())
    by_seed = [predictions.filter(pc.equal(predictions["seed"], seed)) for seed in seeds]
    each = np.stack([task_scores.columns(table, "prob", classes) for table in by_seed])
    size = min(num_seeds, len(seeds))
    tables = []
    for first in range(len(seeds)) if size < len(seeds) else [0]:
        fold_scores = by_seed[first]
        mean = each[(first + np.arange(size)) % len(seeds)].mean(0)
        columns: dict[str, pa.ChunkedArray | list[str]] = {
            name: fold_scores[name] for name in ("clip_id", "speaker", "fold", "seed", "target")
        }
        columns["predicted"] = [classes[place] for place in mean.argmax(1)]
        tables.append(pa.table(columns | {f"prob_{name}": mean[:, i] for i, name in enumerate(classes)}))
    return pa.concat_tables(tables)


def seed_spread(predictions: pa.Table, classes: Sequence[str]) -> dict[str, dict[str, Json]]:
    """For each metric the scores of each seed's models over all clips (`values`) and their standard deviation (`std`)."""
    seeds = np.asarray(predictions["seed"])
    spread: dict[str, dict[str, Json]] = {}
    once = np.ones((1, len(predictions["speaker"].unique())), np.int64)
    by_seed = [
        task_scores.scored(predictions.filter(pa.array(seeds == seed)), "classes", classes).values(once)
        for seed in np.unique(seeds)
    ]
    for name in METRICS:
        values = [float(values[name][0]) for values in by_seed]
        defined = [None if np.isnan(value) else value for value in values]
        std = float(np.std(values, ddof=1)) if len(values) > 1 and None not in defined else None
        spread[name] = {"values": defined, "std": std}
    return spread
