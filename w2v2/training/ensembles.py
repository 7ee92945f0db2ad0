"""An ensemble: models that differ by their seed, or each trained without one fold of the speakers; averaged."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from w2v2.data import folds, leaks
from w2v2.data.groups import dictionary_encoded, looked_up
from w2v2.models.ensemble import member_name, save_ensemble
from w2v2.storage import files as storage
from w2v2.training.finetune_plan import FinetunePlan
from w2v2.training.finetuning import HELD_OUT, FinetuneResult
from w2v2.training.fold_result import Epoch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Training clips, each predicted by the one member that was trained without its speaker."""

    rows: Int[np.ndarray, " rows"]
    values: Float[np.ndarray, "rows outputs"]
    fold: Int[np.ndarray, " rows"]


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """A finished ensemble."""

    averaged: FinetuneResult
    """The ensemble's predictions for val and test (means over members), and the mean of the members' curves."""
    members: Sequence[FinetuneResult]
    """Each with its predictions for val and test."""
    out_of_fold: OutOfFold | None
    """The training clips' predictions, where each member was trained without one fold."""


def train_ensemble(plan: FinetunePlan, *, train: Callable[[FinetunePlan], FinetuneResult]) -> Ensemble:
    """The ensemble of the plan's settings, once all members are trained and `<run>/model` is written.

    train fine-tunes one member; one that has been trained before resumes from its last checkpoint, which trains nothing.
    """
    plans = member_plans(plan)
    trained = []
    for number, member_plan in enumerate(plans):
        logger.info("ensemble: model %d of %d", number + 1, len(plans))
        trained.append(train(member_plan))
    scored = plan.rows("val", "test")
    members = [_part(member, scored) for member in trained]
    has_val = plan.config.training.patience_epochs > 0
    digest = save_ensemble(
        storage.join(plan.config.run, "model"),
        num_members=len(plans),
        card=plan.card | {"midpoints": plan.midpoints, "ensemble": plan.config.ensemble},
        made_from=plan.clips.take(pa.array(plan.rows("train", *(["val"] if has_val else [])))),
    )
    return Ensemble(
        averaged=_averaged(members, digest),
        members=members,
        out_of_fold=_out_of_fold(plans, trained) if plan.config.ensemble == "folds" else None,
    )


def member_plans(plan: FinetunePlan) -> list[FinetunePlan]:
    """The plan of each member: of other seeds, and for `folds` with one fold of the training speakers held out."""
    num_members = plan.config.ensemble_size
    held_out = _held_out(plan) if plan.config.ensemble == "folds" else [plan.clips] * num_members
    return [
        replace(
            plan,
            config=replace(plan.config, run=storage.join(plan.config.run, "members", member_name(number))),
            model_uri=storage.join(plan.config.run, "model", member_name(number)),
            clips=clips,
            member=number,
        )
        for number, clips in enumerate(held_out)
    ]


def _held_out(plan: FinetunePlan) -> list[pa.Table]:
    """The clips once for each fold of the training speakers, with split `held_out` for the clips of the fold."""
    rows = plan.rows("train")
    train = plan.clips.take(pa.array(rows))
    for name in {"speaker", "label"}.intersection(train.column_names):  # without names of other clips
        place = train.column_names.index(name)
        train = train.set_column(place, name, train[name].cast(pa.string()))
    fold_of = folds.divide(
        train, num_folds=plan.config.ensemble_size, by_class=plan.config.task.kind == "classes"
    )
    of_clip = np.full(len(plan.clips), -1)
    of_clip[rows] = looked_up(train["speaker"], fold_of)
    with_fold = train.append_column("fold", pa.array(of_clip[rows]))
    leaks.refuse_same_audio(
        leaks.with_shared_audio(with_fold),
        "fold",
        "in two folds of the ensemble, so a held-out clip would be trained on",
    )
    splits, place = plan.clips["split"].cast(pa.string()), plan.clips.column_names.index("split")
    members = []
    for fold in range(plan.config.ensemble_size):
        split = pc.if_else(pa.array(of_clip == fold), HELD_OUT, splits)
        members.append(plan.clips.set_column(place, "split", dictionary_encoded(split)))
    return members


def _part(trained: FinetuneResult, rows: Int[np.ndarray, " rows"]) -> FinetuneResult:
    """The predictions of these rows alone."""
    keep = np.isin(trained.rows, rows)
    return replace(trained, rows=trained.rows[keep], values=np.asarray(trained.values)[keep])


def _averaged(members: Sequence[FinetuneResult], digest: str) -> FinetuneResult:
    epochs = {member.best_epoch for member in members}
    values: np.ndarray = np.stack([np.asarray(member.values) for member in members]).mean(0, dtype=np.float64)
    return FinetuneResult(
        rows=members[0].rows,
        values=values.astype(np.float32),
        curve=_mean_curve([member.curve for member in members]),
        best_epoch=epochs.pop() if len(epochs) == 1 else None,
        num_trained_parameters=sum(member.num_trained_parameters for member in members),
        digest=digest,
    )


def _mean_curve(curves: Sequence[Sequence[Epoch]]) -> list[Epoch]:
    """The mean, by epoch, over the members that reached it."""
    epochs = []
    for number in range(max(map(len, curves))):
        points = [curve[number] for curve in curves if len(curve) > number]
        epochs.append(
            Epoch(
                epoch=points[0].epoch,
                train_loss=float(np.mean([point.train_loss for point in points])),
                train_uar=_mean([point.train_uar for point in points]),
                learning_rate=float(np.mean([point.learning_rate for point in points])),
                val_loss=_mean([point.val_loss for point in points]),
            )
        )
    return epochs


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if len(defined) == len(values) else None


def _out_of_fold(plans: Sequence[FinetunePlan], trained: Sequence[FinetuneResult]) -> OutOfFold:
    parts = [_part(member, plan.rows(HELD_OUT)) for plan, member in zip(plans, trained, strict=True)]
    return OutOfFold(
        rows=np.concatenate([part.rows for part in parts]),
        values=np.concatenate([np.asarray(part.values) for part in parts]),
        fold=np.concatenate([np.full(len(part.rows), number) for number, part in enumerate(parts)]),
    )
