"""The tables of a search: folds, curves, trials and out-of-fold predictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
from jaxtyping import Float, Int

from w2v2.evaluation import classification, recognition
from w2v2.evaluation.direction import sign, worst
from w2v2.evaluation.selection import chosen_on_other_folds
from w2v2.training.fold_result import FoldResult, FoldScore, FoldTranscripts

Scores = Mapping[tuple[int, int], FoldResult]
METRICS = (*classification.METRICS, *recognition.METRICS)
"""What folds and trials are scored by: classes by the first of them, transcripts by the others."""


def fold_metrics(score: FoldResult, classes: Sequence[str]) -> dict[str, float | None]:
    """UAR, accuracy and macro F1 of a fold's held-out clips, WER and CER of transcripts; None where undefined."""
    if isinstance(score, FoldTranscripts):
        return recognition.rates(score.references, score.hypotheses, spaces=score.spaces)
    return classification.rates(_confusion(score, classes))


def _confusion(score: FoldScore, classes: Sequence[str]) -> Int[np.ndarray, "classes classes"]:
    return classification.confusion(score.targets, score.probabilities.argmax(1), len(classes))


def folds_table(scores: Scores, classes: Sequence[str]) -> pa.Table:
    """One row per finished fold of a trial."""
    rows = []
    for (trial, fold), score in sorted(scores.items()):
        metrics = fold_metrics(score, classes)
        clips = (score.num_train * len(score.curve) + len(score.clip_ids)) / score.seconds
        rows.append(
            {"trial": trial, "fold": fold, "state": "done"}
            | {name: metrics[name] for name in METRICS if name in metrics}
            | {"loss": score.loss, "train_loss": score.curve[-1].train_loss, "num_train": score.num_train}
            | {
                "num_held_out": len(score.clip_ids),
                "num_trained_parameters": score.num_trained_parameters,
                "seconds": score.seconds,
                "clips_per_s": clips,
            }
        )
    return pa.Table.from_pylist(rows)


def curves_table(scores: Scores) -> pa.Table:
    """One row per epoch of each fold of each trial; all values are measured on training clips."""
    rows = [
        {"trial": trial, "fold": fold}
        | {
            name: value for name, value in asdict(epoch).items() if name != "val_loss"
        }  # no fold has a val split
        for (trial, fold), score in sorted(scores.items())
        for epoch in score.curve
    ]
    return pa.Table.from_pylist(rows)


def trials_table(trials: Sequence[optuna.trial.FrozenTrial], folds: pa.Table) -> pa.Table:
    """One row per trial: state, hyperparameters, mean and standard deviation over its folds."""
    paths = sorted({path for trial in trials for path in trial.params})
    columns: dict[str, list[Any]] = {
        "trial": [t.number for t in trials],
        "state": [t.state.name for t in trials],
    }
    columns |= {f"params_{path}": [t.params.get(path) for t in trials] for path in paths}
    rows = [[row for row in folds.to_pylist() if row["trial"] == t.number] for t in trials]
    for name in (name for name in METRICS if name in folds.column_names):
        columns[f"{name}_mean"] = [_mean(row[name] for row in done) for done in rows]
        columns[f"{name}_std"] = [_std(row[name] for row in done) for done in rows]
    columns["folds_done"] = [len(done) for done in rows]
    columns["seconds"] = [float(sum(row["seconds"] for row in done)) for done in rows]
    columns["error"] = [t.user_attrs.get("error", "") for t in trials]
    return pa.table(columns)


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _std(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.std(defined, ddof=1)) if len(defined) > 1 else None


def predictions_table(scores: Sequence[FoldResult], clips: pa.Table, classes: Sequence[str]) -> pa.Table:
    """Out-of-fold predictions of one trial: every clip once, in the manifest's order."""
    clip_ids = [clip_id for score in scores for clip_id in score.clip_ids]
    place = {clip_id: index for index, clip_id in enumerate(clip_ids)}
    order = [place[clip_id] for clip_id in clips["clip_id"].to_pylist()]
    columns = {name: clips[name] for name in ("clip_id", "speaker", "fold")}
    if all(isinstance(score, FoldTranscripts) for score in scores):
        written = [
            text for score in scores if isinstance(score, FoldTranscripts) for text in score.hypotheses
        ]
        predicted = pa.array([written[row] for row in order], pa.string())
        return pa.table(columns | {"target": clips["reference"], "predicted": predicted})
    probabilities = np.concatenate([score.probabilities for score in scores if isinstance(score, FoldScore)])
    rows = probabilities[order]
    columns |= {
        "target": clips["label"],
        "predicted": pa.array([classes[index] for index in rows.argmax(1)]),
    }
    return pa.table(columns | {f"prob_{name}": rows[:, index] for index, name in enumerate(classes)})


def nested_score(
    scores: Scores, complete: Sequence[int], classes: Sequence[str], metric: str, num_folds: int
) -> float | None:
    """The metric when each fold's trial is chosen on the other folds alone, pooled over folds.

    None with fewer than two complete trials.
    """
    if len(complete) < 2:
        return None
    chosen = chosen_on_other_folds(fold_values(scores, complete, classes, metric, num_folds))
    picked = [scores[complete[row], fold] for fold, row in enumerate(chosen)]
    if all(isinstance(score, FoldTranscripts) for score in picked):
        texts = [score for score in picked if isinstance(score, FoldTranscripts)]
        references = [text for score in texts for text in score.references]
        hypotheses = [text for score in texts for text in score.hypotheses]
        return recognition.rates(references, hypotheses, spaces=texts[0].spaces)[metric]
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for score in picked:
        assert isinstance(score, FoldScore)
        total += _confusion(score, classes)
    return classification.rates(total)[metric]


def fold_values(
    scores: Scores, complete: Sequence[int], classes: Sequence[str], metric: str, num_folds: int
) -> Float[np.ndarray, "trials folds"]:
    """The searched metric of every complete trial and fold, where it counts errors times -1: higher is better.

    A fold that does not define it counts as the worst.
    """
    rows = [[fold_value(scores[t, f], classes, metric) for f in range(num_folds)] for t in complete]
    return sign(metric) * np.array(rows)


def fold_value(score: FoldResult, classes: Sequence[str], metric: str) -> float:
    """The searched metric of a fold; the worst where the fold does not define it."""
    value = fold_metrics(score, classes)[metric]
    return worst(metric) if value is None else value


def best_trial(trials: Sequence[optuna.trial.FrozenTrial], metric: str) -> optuna.trial.FrozenTrial | None:
    """The complete trial with the best value; the earliest of equals; None where none is complete."""
    complete = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE and t.value is not None]
    return max(complete, key=lambda t: (sign(metric) * (t.value or 0.0), -t.number), default=None)
