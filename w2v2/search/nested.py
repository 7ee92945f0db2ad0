"""Nested cross-validation: for each fold a separate search on the clips of the other folds chooses the hyperparameters.

A fold's speakers have no influence on the choice of the model that they are scored with, neither on proposals nor on
pruning. Features are the same as in the search, from the cache.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.models.fold_encoders import ByFold
from w2v2.search.final_trainings import FoldChoice
from w2v2.search.learning_curve import NUM_DRAWS, NUM_SIZES
from w2v2.search.study import Study, open_study
from w2v2.search.summary import best_trial
from w2v2.search.trial import SearchPlan

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Numbers of models that a search trains, each on all folds but one or, inside of nested cross-validation, on all but two."""

    num_search: int
    """Models of the search itself, where none of its trials is pruned."""
    num_inner: int
    """Models of the searches without one fold, where none of their trials is pruned."""
    num_final: int
    """Models of the choices, with every seed."""
    num_curve: int = 0
    """Models for the learning curve: the choices trained on subsets of the training speakers."""

    def __str__(self) -> str:
        parts = [f"{self.num_search} models by the search"]
        parts += [f"{self.num_inner} by the searches without one fold"] if self.num_inner else []
        parts += [f"{self.num_final} by its choices with their seeds"] if self.num_final else []
        parts += [f"{self.num_curve} on some of the speakers by the learning curve"] if self.num_curve else []
        total = self.num_search + self.num_inner + self.num_final + self.num_curve
        return f"{', '.join(parts)}: up to {total} to train" if len(parts) > 1 else f"up to {parts[0]}"


def cost_of(config: TuneFoldsConfig) -> Cost:
    """How many models a search with these settings trains: trials, folds and replicates multiplied out.

    >>> from w2v2.config.tune_folds import SearchConfig
    >>> cost_of(TuneFoldsConfig(search=SearchConfig(num_trials=10, nested=True)))
    Cost(num_search=60, num_inner=300, num_final=6, num_curve=0)
    """
    num_folds, search = config.folds.num_folds, config.search
    num_inner = num_folds * search.num_trials * (num_folds - 1) if search.nested else 0
    return Cost(
        num_search=num_folds * search.num_trials,
        num_inner=num_inner,
        num_final=num_folds * len(search.replicates),
        num_curve=num_folds * NUM_SIZES * NUM_DRAWS if search.learning_curve else 0,
    )


def refuse_encoders_by_fold(config: TuneFoldsConfig, of_fold: ByFold) -> None:
    """Raises UserError for nested cross-validation with an encoder for each fold: it would need encoders pre-trained without two folds."""
    if config.search.nested and of_fold:
        raise UserError(
            "search.nested leaves out two folds at a time, and encoder.name is a folder with an encoder for each fold, every one of "
            "which has the audio of all others in it: leave out --search.nested, or give one encoder"
        )


def without_fold(plan: SearchPlan, fold: int) -> SearchPlan:
    """The plan of a search on the clips of the other folds, which are renumbered from 0 without gaps."""
    folds = np.asarray(plan.clips["fold"])
    clips = plan.clips.filter(pa.array(folds != fold))
    kept_folds = folds[folds != fold]
    place = clips.column_names.index("fold")
    clips = clips.set_column(place, "fold", pa.array(kept_folds - (kept_folds > fold)))
    return replace(plan, clips=clips, outer_fold=fold)


def nested_choices(plan: SearchPlan, *, search: Callable[[SearchPlan, Study], None]) -> list[FoldChoice]:
    """For each fold the best trial of a search without it; search runs a plan's trials to their end.

    Raises UserError where one of the searches has no complete trial.
    """
    choices = []
    for fold in range(plan.num_folds):
        logger.info("nested cross-validation: the search without fold %d of %d", fold, plan.num_folds)
        study = open_study(plan.config, outer_fold=fold)
        search(without_fold(plan, fold), study)
        best = best_trial(study.study.trials, plan.config.search.metric)
        if best is None:
            errors = [t.user_attrs["error"] for t in study.study.trials if "error" in t.user_attrs]
            raise UserError(
                f"nested cross-validation: no trial of the search without fold {fold} has all its folds; the first error: {errors[:1]}"
            )
        choices.append(FoldChoice(fold=fold, trial=best.number, params=best.params))
    return choices
