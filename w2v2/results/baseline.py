"""The end of a baseline: tables, metrics.json, plots and the page."""

import logging
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from w2v2.config.baseline import BaselineConfig
from w2v2.data.accounting import account, data_summary
from w2v2.data.manifest import Manifest
from w2v2.data.targets import target_array
from w2v2.evaluation import classification
from w2v2.evaluation import scores as task_scores
from w2v2.evaluation.details import class_details, detail_lines
from w2v2.evaluation.fold_scores import fold_intervals, over_folds
from w2v2.evaluation.predictions import predictions_table
from w2v2.json_types import Json, JsonObject
from w2v2.results.sessions import with_sessions
from w2v2.storage import run_directory
from w2v2.training.svm import FoldFit
from w2v2.versions import library_versions

logger = logging.getLogger(__name__)


def write_outcome(
    config: BaselineConfig,
    corpus: Manifest,
    classes: Sequence[str],
    fits: Sequence[FoldFit],
    *,
    names: Sequence[str],
    seconds: float,
) -> dict[str, Json]:
    """The metrics, after all files of the run directory have been written; names are of the features."""
    predictions = _out_of_fold(corpus.clips, classes, fits)
    target = target_array(corpus.clips, "classes", classes)
    folds = [_fold_row(fit, target[fit.held_out], classes) for fit in fits]
    run_directory.write_table(config.run, "predictions", predictions)
    run_directory.write_table(config.run, "folds", pa.Table.from_pylist(folds))
    metrics: dict[str, Json] = {
        "job": "baseline",
        **_scores(config, corpus, classes, predictions, folds),
        "chosen": [{name: row[name] for name in ("fold", "c", "gamma", "inner_uar")} for row in folds],
        "model": {"name": f"SVM on {', '.join(config.svm.features)}", "num_features": len(names)},
        "features": list(names),
        "data": data_summary(config.data.uri, corpus),
        "clips": account(corpus),
        "seconds": round(seconds, 1),
        "versions": library_versions("scikit-learn", "librosa", "ray"),
    }
    metrics = with_sessions(config.run, metrics)
    run_directory.write_metrics(config.run, metrics)
    _report(config, metrics)
    return metrics


def _out_of_fold(clips: pa.Table, classes: Sequence[str], fits: Sequence[FoldFit]) -> pa.Table:
    """The rows of predictions.parquet: each clip as predicted by the support vector machine that was trained without its fold."""
    probabilities = np.zeros((len(clips), len(classes)))
    for fit in fits:
        probabilities[fit.held_out] = fit.probabilities
    keep = ("clip_id", "speaker", "fold")
    return predictions_table(clips, probabilities, kind="classes", names=list(classes), keep=keep)


def _scores(
    config: BaselineConfig,
    corpus: Manifest,
    classes: Sequence[str],
    predictions: pa.Table,
    folds: Sequence[dict[str, Json]],
) -> dict[str, Json]:
    """The scores of all folds together, of each fold and of slices of the clips, and a sentence on what they were computed on."""
    seed = config.seed
    return {
        **task_scores.score_predictions(
            predictions, kind="classes", names=classes, seed=seed, midpoints=None
        ),
        "metric": "uar",
        "computed_on": "out-of-fold predictions: every clip is scored by the model of the fold in which its speaker was "
        f"held out ({len(folds)} folds, no speaker in two), with settings chosen on inner folds of the other speakers",
        "folds": over_folds(folds, fold_intervals(predictions, "classes", classes, seed=seed)),
        **class_details(predictions, corpus.clips, classes, columns=config.data.slice_columns, seed=seed),
    }


def _report(config: BaselineConfig, metrics: JsonObject) -> None:
    """Writes the page, and logs the scores and where it is."""
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.model_page import write_model_report

    page = write_model_report(config.run)
    logger.info("%s", "\n".join([task_scores.score_lines(metrics), *detail_lines(metrics)]))
    logger.info("page: %s", page)


def _fold_row(fit: FoldFit, target: np.ndarray, classes: Sequence[str]) -> dict[str, Json]:
    confusion = classification.confusion(target, fit.probabilities.argmax(1), len(classes))
    scores = classification.scores(confusion, classes)
    likely = fit.probabilities[np.arange(len(target)), target]
    return {
        "fold": fit.fold,
        **{name: scores[name] for name in ("uar", "accuracy", "macro_f1")},
        "loss": float(-np.log(np.maximum(likely, 1e-12)).mean()),
        "num_train": fit.num_train,
        "num_held_out": len(target),
        "seconds": fit.seconds,
        "c": fit.c,
        "gamma": fit.gamma,
        "inner_uar": fit.inner_uar,
        "temperature": fit.temperature,
    }
