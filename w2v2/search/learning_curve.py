"""The learning curve of a search: its choices trained on subsets of the training speakers, a few draws for each size.

Each fold is predicted by models with the hyperparameters that were chosen without it, as in `final_trainings`. The
smaller subsets of a draw are parts of the larger ones, so that the steps of the curve are not differences between
people.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from w2v2.errors import UserError
from w2v2.evaluation import learning_curve as curves
from w2v2.json_types import Json
from w2v2.progress import Progress
from w2v2.search.estimate import mixed
from w2v2.search.final_trainings import FoldChoice, Train, Training
from w2v2.search.fold_store import FoldStore
from w2v2.search.space import settings_of_trial
from w2v2.search.summary import FOLD_METRICS, fold_metrics
from w2v2.search.trial import SearchPlan
from w2v2.training.fold_result import DivergenceError, FoldResult
from w2v2.wording import counted

NUM_DRAWS = 3
NUM_SIZES = 4
"""A quarter, half, three quarters and all of the training speakers."""
FIRST_REPLICATE = 1000
"""The number of the first draw's seeds: search.final_seeds has smaller numbers."""

Place = tuple[int, int, int]
"""Number of training speakers, draw, fold."""


@dataclass(frozen=True, kw_only=True)
class CurveTrainings:
    """The trainings of a learning curve, finished."""

    choices: Sequence[FoldChoice]
    scores: Mapping[Place, FoldResult]

    @property
    def sizes(self) -> list[int]:
        """The numbers of training speakers, ascending."""
        return sorted({size for size, _, _ in self.scores})

    def numbers(self, clips: pa.Table, classes: Sequence[str], *, metric: str, seed: int) -> dict[str, Json]:
        """`learning_curve` of metrics.json; clips have clip_id, speaker and fold."""
        shares = np.full((len(self.choices), NUM_DRAWS), 1 / NUM_DRAWS)
        by_size = {}
        for size in self.sizes:
            scores_of_size = {(draw, fold): s for (n, draw, fold), s in self.scores.items() if n == size}
            by_size[size] = mixed(
                scores_of_size, range(NUM_DRAWS), shares, clips=clips, classes=classes, among=classes
            )
        curve = curves.learning_curve(by_size, metric=metric, seed=seed)
        return {"metric": metric, "num_draws": NUM_DRAWS, **curve}

    def table(self, classes: Sequence[str]) -> pa.Table:
        """A row for each training: its number of speakers, draw, fold and trial, the scores of its held-out clips, clips and seconds."""
        trials = {choice.fold: choice.trial for choice in self.choices}
        rows = []
        for (size, draw, fold), score in sorted(self.scores.items()):
            metrics = fold_metrics(score, classes)
            rows.append(
                {"num_speakers": size, "draw": draw, "fold": fold, "trial": trials[fold]}
                | {name: metrics[name] for name in FOLD_METRICS if name in metrics}
                | {
                    "num_train": score.num_train,
                    "num_held_out": len(score.clip_ids),
                    "seconds": score.seconds,
                }
            )
        return pa.Table.from_pylist(rows)


def curve_sizes(clips: pa.Table) -> list[int]:
    """The numbers of training speakers: quarters of the smallest number that a fold has; clips have speaker and fold.

    Raises UserError where these are fewer than four different numbers.
    """
    pairs = clips.group_by(["speaker", "fold"]).aggregate([])
    num_held_out = np.bincount(pairs["fold"].to_numpy())
    num_least = int(len(pairs) - num_held_out.max())
    if num_least < NUM_SIZES:
        raise UserError(
            f"search.learning_curve needs {NUM_SIZES} training speakers or more in each fold, got "
            f"{counted(num_least, 'speakers')}: leave it out, or raise folds.num_folds"
        )
    return [max(1, round(num_least * part / NUM_SIZES)) for part in range(1, NUM_SIZES + 1)]


def draw_order(clips: pa.Table, fold: int, draw: int, *, seed: int) -> list[str]:
    """The training speakers of a fold in the order of a draw: a training on n speakers has the first n.

    At random, but speakers with the same classes are spread evenly over the order, so that where each speaker has one class,
    a quarter of the speakers has all classes.
    """
    classes_of: dict[str, set[str]] = {}
    for row in clips.group_by(["speaker", "fold", "label"]).aggregate([]).to_pylist():
        if row["fold"] != fold:
            classes_of.setdefault(row["speaker"], set()).add(row["label"])
    rng = np.random.default_rng([seed, fold, draw])
    strata: dict[tuple[str, ...], list[str]] = {}
    for speaker in sorted(classes_of):
        strata.setdefault(tuple(sorted(classes_of[speaker])), []).append(speaker)
    placed: list[tuple[float, str]] = []
    for speakers in strata.values():
        places = (np.arange(len(speakers)) + rng.random(len(speakers))) / len(speakers)
        placed += zip(places.tolist(), rng.permutation(speakers).tolist(), strict=True)
    return [speaker for _, speaker in sorted(placed)]


def train_curve(
    plan: SearchPlan, clips: pa.Table, choices: Sequence[FoldChoice], *, train: Train
) -> CurveTrainings:
    """Every fold's choice trained on every number of speakers and draw; what the fold store has is not trained again.

    clips are the clips of the plan, with their speakers. Raises UserError where a training diverges.
    """
    by_fold = {choice.fold: choice for choice in choices}
    wanted = _places(clips, choices)
    done = _recorded(plan, by_fold, wanted)
    todo = [place for place in wanted if place not in done]
    progress = Progress("learning curve", len(wanted), unit="trainings")

    def record(index: int, score: FoldResult) -> None:
        size, draw, fold = todo[index]
        _fold_store(plan, size).write(draw, score, params=by_fold[fold].params)
        done[size, draw, fold] = score
        progress(len(done))

    try:
        train(_trainings(plan, clips, by_fold, todo), on_done=record)
    except DivergenceError as error:
        raise UserError(
            f"a training of the learning curve diverged ({' '.join(str(error).split())[:200]}), on some of the speakers and with "
            "settings that did not diverge on all: set --optim.clip_norm or lower the learning rates in search.space, in a "
            "run of its own, or leave out --search.learning_curve"
        ) from error
    return CurveTrainings(choices=choices, scores=done)


def recorded_curve(plan: SearchPlan, clips: pa.Table, choices: Sequence[FoldChoice]) -> CurveTrainings | None:
    """The curve that an earlier session of the run has trained for these choices; None where a training is missing."""
    wanted = _places(clips, choices)
    done = _recorded(plan, {choice.fold: choice for choice in choices}, wanted)
    return CurveTrainings(choices=choices, scores=done) if len(done) == len(wanted) else None


def _places(clips: pa.Table, choices: Sequence[FoldChoice]) -> list[Place]:
    return [
        (size, draw, choice.fold)
        for size in curve_sizes(clips)
        for draw in range(NUM_DRAWS)
        for choice in choices
    ]


def _recorded(
    plan: SearchPlan, choices: Mapping[int, FoldChoice], places: Sequence[Place]
) -> dict[Place, FoldResult]:
    """The scores that the fold store has."""
    recorded = [
        _fold_store(plan, size).read(draw, fold, params=choices[fold].params) for size, draw, fold in places
    ]
    return {place: score for place, score in zip(places, recorded, strict=True) if score is not None}


def _fold_store(plan: SearchPlan, size: int) -> FoldStore:
    return FoldStore(plan.run, series=f"speakers-{size:05d}")


def _trainings(
    plan: SearchPlan, clips: pa.Table, choices: Mapping[int, FoldChoice], places: Sequence[Place]
) -> list[Training]:
    """A training for each place; trainings with the same number of speakers and the same draw share a plan."""
    speaker = np.asarray(clips["speaker"].to_pylist(), np.str_)
    plans: dict[tuple[int, int], SearchPlan] = {}
    for size, draw in {(size, draw): None for size, draw, _ in places}:
        folds = [fold for n, d, fold in places if (n, d) == (size, draw)]
        orders = {fold: draw_order(clips, fold, draw, seed=plan.config.seed) for fold in folds}
        rows: dict[int, Int[np.ndarray, " _"]] = {
            fold: np.flatnonzero(np.isin(speaker, order[:size])) for fold, order in orders.items()
        }
        plans[size, draw] = replace(plan, replicate=FIRST_REPLICATE + draw, train_rows=rows)
    return [
        Training(
            settings=settings_of_trial(plan.config, choices[fold].params), plan=plans[size, draw], fold=fold
        )
        for size, draw, fold in places
    ]
