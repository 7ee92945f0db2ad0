"""The tables of a search: folds, curves, trials and out-of-fold predictions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import optuna
import pyarrow as pa
from jaxtyping import Float, Int

from w2v2.data.clip_columns import text_array
from w2v2.data.groups import places_of
from w2v2.evaluation import classification, recognition
from w2v2.evaluation.direction import sign, worst
from w2v2.evaluation.selection import chosen_on_other_folds
from w2v2.training.fold_result import Epoch, FoldResult, FoldScore, FoldTranscripts

Scores = Mapping[tuple[int, int], FoldResult]
FOLD_METRICS = (*classification.METRICS, *recognition.METRICS)
"""The metrics of folds and trials: the first ones for classes, the others for transcripts."""


@dataclass(frozen=True, kw_only=True)
class FoldSummary:
    """A fold of a trial without its predictions."""

    metrics: Mapping[str, float | None]
    """The metrics that fold_metrics returns."""
    confusion: Int[np.ndarray, "classes classes"] | None
    """None of transcripts."""
    loss: float
    num_train: int
    num_held_out: int
    num_trained_parameters: int
    seconds: float
    curve: Sequence[Epoch]


@runtime_checkable
class Summarised(Protocol):
    """Scores with their summaries in memory; their predictions may have to be read from files."""

    summaries: Mapping[tuple[int, int], FoldSummary]


def summary_of(score: FoldResult, classes: Sequence[str]) -> FoldSummary:
    """The summary of a fold."""
    return FoldSummary(
        metrics=fold_metrics(score, classes),
        confusion=None if isinstance(score, FoldTranscripts) else _confusion(score, classes),
        loss=score.loss,
        num_train=score.num_train,
        num_held_out=len(score.clip_ids),
        num_trained_parameters=score.num_trained_parameters,
        seconds=score.seconds,
        curve=score.curve,
    )


def summaries_of(scores: Scores, classes: Sequence[str]) -> Mapping[tuple[int, int], FoldSummary]:
    """The summary of each fold."""
    if isinstance(scores, Summarised):
        return scores.summaries
    return {place: summary_of(score, classes) for place, score in scores.items()}


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
    for (trial, fold), of_fold in sorted(summaries_of(scores, classes).items()):
        clips = (of_fold.num_train * len(of_fold.curve) + of_fold.num_held_out) / of_fold.seconds
        rows.append(
            {"trial": trial, "fold": fold, "state": "done"}
            | {name: of_fold.metrics[name] for name in FOLD_METRICS if name in of_fold.metrics}
            | {
                "loss": of_fold.loss,
                "train_loss": of_fold.curve[-1].train_loss,
                "num_train": of_fold.num_train,
                "num_held_out": of_fold.num_held_out,
                "num_trained_parameters": of_fold.num_trained_parameters,
                "seconds": of_fold.seconds,
                "clips_per_s": clips,
            }
        )
    return pa.Table.from_pylist(rows)


def curves_table(scores: Scores) -> pa.Table:
    """One row per epoch of each fold of each trial; all values are measured on training clips."""
    of_folds = scores.summaries if isinstance(scores, Summarised) else scores
    rows = [
        {"trial": trial, "fold": fold}
        | {
            name: value for name, value in asdict(epoch).items() if name != "val_loss"
        }  # no fold has a val split
        for (trial, fold), of_fold in sorted(of_folds.items())
        for epoch in of_fold.curve
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
    for name in (name for name in FOLD_METRICS if name in folds.column_names):
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
    place = places_of(
        clips["clip_id"], pa.chunked_array([text_array(score.clip_ids) for score in scores], pa.string())
    )
    assert (place >= 0).all(), "every clip is held out by a fold"
    columns = {name: clips[name] for name in ("clip_id", "speaker", "fold")}
    if all(isinstance(score, FoldTranscripts) for score in scores):
        written = [
            text for score in scores if isinstance(score, FoldTranscripts) for text in score.hypotheses
        ]
        predicted = pa.array(written, pa.string()).take(pa.array(place))
        return pa.table(columns | {"target": clips["reference"], "predicted": predicted})
    probabilities = np.concatenate([score.probabilities for score in scores if isinstance(score, FoldScore)])
    rows = probabilities[place]
    columns |= {
        "target": clips["label"],
        "predicted": pa.array(classes, pa.string()).take(pa.array(rows.argmax(1))),
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
    places = [(complete[row], fold) for fold, row in enumerate(chosen)]
    summaries = summaries_of(scores, classes)
    confusions = [summaries[place].confusion for place in places]
    total = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for confusion in confusions:
        if confusion is None:
            return _pooled_rates([scores[place] for place in places])[metric]
        total += confusion
    return classification.rates(total)[metric]


def _pooled_rates(scores: Sequence[FoldResult]) -> Mapping[str, float | None]:
    """Error rates of the transcripts of all folds."""
    texts = [score for score in scores if isinstance(score, FoldTranscripts)]
    references = [text for score in texts for text in score.references]
    hypotheses = [text for score in texts for text in score.hypotheses]
    return recognition.rates(references, hypotheses, spaces=texts[0].spaces)


def fold_values(
    scores: Scores, complete: Sequence[int], classes: Sequence[str], metric: str, num_folds: int
) -> Float[np.ndarray, "trials folds"]:
    """The searched metric of every complete trial and fold; error rates are multiplied by -1, so that higher is better.

    A fold for which it is undefined gets the worst value.
    """
    summaries = summaries_of(scores, classes)
    rows = [[_value(summaries[t, f].metrics, metric) for f in range(num_folds)] for t in complete]
    return sign(metric) * np.array(rows)


def fold_value(score: FoldResult, classes: Sequence[str], metric: str) -> float:
    """The searched metric of a fold; the worst value where it is undefined."""
    return _value(fold_metrics(score, classes), metric)


def _value(metrics: Mapping[str, float | None], metric: str) -> float:
    value = metrics[metric]
    return worst(metric) if value is None else value


def best_trial(trials: Sequence[optuna.trial.FrozenTrial], metric: str) -> optuna.trial.FrozenTrial | None:
    """The complete trial with the best value; the earliest of equals; None where none is complete."""
    complete = [t for t in trials if t.state == optuna.trial.TrialState.COMPLETE and t.value is not None]
    return max(complete, key=lambda t: (sign(metric) * (t.value or 0.0), -t.number), default=None)
