"""The end of a search: tables, metrics.json, best.yaml, plots and the page."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import yaml

from w2v2.config.command_line import dump
from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.accounting import account
from w2v2.data.manifest import Manifest
from w2v2.errors import UserError
from w2v2.evaluation import baseline_comparison, classification
from w2v2.evaluation import scores as task_scores
from w2v2.evaluation.details import class_details, detail_lines
from w2v2.machine import describe_run
from w2v2.models import provenance
from w2v2.results.tensorboard import search_scalars, write_tensorboard
from w2v2.search import summary
from w2v2.search.estimate import estimate, search_scored
from w2v2.search.fold_store import Ledger
from w2v2.search.space import with_params
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.versions import library_versions

logger = logging.getLogger(__name__)


def write_outcome(
    config: TuneFoldsConfig,
    found: Manifest,
    classes: Sequence[str],
    study: optuna.Study,
    *,
    trunk: dict[str, int],
    encoders: Mapping[EncoderConfig, Mapping[str, str]],
    baseline: baseline_comparison.Baseline | None,
    seconds: float,
) -> dict[str, Any]:
    """The metrics, after all files of the run directory have been written from the study and the ledger.

    `encoders` says of each that a trial may have had its digest, its cut and, where known, who trained it.
    Raises UserError with the trials' errors when none has all its folds.
    """
    trials = [t for t in study.trials if t.state != optuna.trial.TrialState.WAITING]
    num_folds = config.folds.num_folds
    scores = Ledger(config.run).read_all([t.number for t in trials], num_folds)
    folds = summary.folds_table(scores, classes)
    table = summary.trials_table(trials, folds)
    run_directory.write_table(config.run, "trials", table)
    best = summary.best_trial(trials)
    if best is None:
        errors = [t.user_attrs["error"] for t in trials if "error" in t.user_attrs]
        raise UserError(
            f"none of {len(trials)} trials has all its {num_folds} folds; the first error: {errors[:1]}"
        )
    curves = summary.curves_table(scores)
    predictions = summary.predictions_table(
        [scores[best.number, f] for f in range(num_folds)], found.clips, classes
    )
    for name, rows in {"folds": folds, "curves": curves, "predictions": predictions}.items():
        run_directory.write_table(config.run, name, rows)
    scored = _scores(config, classes, best, folds, predictions)
    encoder = _encoder(config, best, encoders)
    complete, metric = _complete(trials), config.search.metric
    to_expect = search_scored(
        scores,
        complete,
        clips=found.clips,
        classes=classes,
        metric=metric,
        num_folds=num_folds,
        seed=config.seed,
    )
    metrics = {
        "job": "tune_folds",
        **scored,
        "computed_on": scored["computed_on"] + provenance.caveat(encoder),
        "estimate": estimate(
            to_expect,
            metric=metric,
            num_folds=num_folds,
            num_trials=len(trials),
            num_complete=len(complete),
            best=scored["pooled"],
            seed=config.seed,
        ),
        "selection": selection_of(
            trials,
            best=scored["pooled"][metric],
            nested=summary.nested_score(scores, complete, classes, metric, num_folds),
        ),
        **class_details(
            predictions, found.clips, classes, columns=config.data.slice_columns, seed=config.seed
        ),
        "encoder": encoder,
        "data": _data(config, found),
        "trunk": trunk,
        "clips": account(found),
        "seconds": round(seconds, 1),
        "made": describe_run(),
        "versions": library_versions("torch", "transformers", "ray", "optuna"),
    }
    if baseline is not None:
        metrics["baseline"] = baseline_comparison.side_by_side(to_expect, baseline, classes, seed=config.seed)
    run_directory.write_json(config.run, "metrics", metrics)
    storage.write_text(
        storage.join(config.run, "best.yaml"), best_config(config, best.params, metrics["estimate"])
    )
    write_tensorboard(config.run, search_scalars(curves, table))
    logger.info("page: drawing the plots")
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.tune_page import write_tune_report

    page = write_tune_report(config.run)
    logger.info("%s", score_lines(metrics))
    logger.info("page: %s", page)
    return metrics


def _scores(
    config: TuneFoldsConfig,
    classes: Sequence[str],
    best: optuna.trial.FrozenTrial,
    folds: pa.Table,
    predictions: pa.Table,
) -> dict[str, Any]:
    """The best trial's scores, and what they were computed on."""
    pooled = task_scores.pooled_metrics(predictions, classes, seed=config.seed)
    return {
        "trial": best.number,
        "params": best.params,
        "classes": list(classes),
        "chance_uar": task_scores.chance_uar(pooled),
        "metric": config.search.metric,
        "computed_on": f"out-of-fold predictions of trial {best.number}: every clip is scored by the model of the "
        f"fold in which its speaker was held out ({config.folds.num_folds} folds, no speaker in two)",
        "pooled": pooled,
        "folds": task_scores.over_folds([row for row in folds.to_pylist() if row["trial"] == best.number]),
        "by_speaker": task_scores.speaker_metrics(predictions, classes),
    }


def _encoder(
    config: TuneFoldsConfig,
    best: optuna.trial.FrozenTrial,
    encoders: Mapping[EncoderConfig, Mapping[str, str]],
) -> dict[str, Any]:
    """What the best trial had, where encoders are searched over."""
    encoder = with_params(config, best.params).encoder
    named = {name: getattr(encoder, name) for name in ("name", "train", "pooling", "layer")}
    return named | dict(encoders[encoder])


def best_config(config: TuneFoldsConfig, params: dict[str, Any], found: Mapping[str, Any]) -> str:
    """YAML with the best hyperparameters in place, without what belongs to the search and this run.

    A comment on top has the estimate of what they are worth.
    """
    tree = yaml.safe_load(dump(with_params(config, params)))
    for name in ("run", "search", "folds", "baseline"):
        tree.pop(name)
    tree["tuned_on"] = config.run
    own = found["metrics"][found["metric"]]
    worth = f"# {found['metric']} on new speakers: {_number(own['value'])} {_within(own)} ({found['name']})\n"
    return worth + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def _complete(trials: Sequence[optuna.trial.FrozenTrial]) -> list[int]:
    return [t.number for t in trials if t.state == optuna.trial.TrialState.COMPLETE]


def selection_of(
    trials: Sequence[optuna.trial.FrozenTrial], *, best: float | None, nested: float | None
) -> dict[str, Any]:
    """How the trials ended, and what that makes of the best one's score.

    best is the pooled score of the best trial: the mean over folds is under `folds`, and is another score where folds lack a class.
    """
    states = [t.state.name for t in trials]
    return {
        "num_trials": len(trials),
        "num_complete": states.count("COMPLETE"),
        "num_pruned": states.count("PRUNED"),
        "num_failed": states.count("FAIL"),
        "best": best,
        "nested": nested,
        "note": _note(len(trials), states.count("COMPLETE")),
    }


def _note(num_trials: int, num_complete: int) -> str:
    if num_trials == 1:
        return "one trial: nothing was chosen by the folds that score it"
    if num_complete == 1:
        return f"the best of {num_trials} trials is an optimistic estimate, and as one is complete, by how much is unknown"
    return (
        f"the best of {num_trials} trials is an optimistic estimate: the same folds chose it and score it. 'estimate' is free "
        "of that choice; 'nested' chooses each fold's trial on the other folds alone."
    )


def _data(config: TuneFoldsConfig, found: Manifest) -> dict[str, Any]:
    return {
        "uri": config.data.uri,
        "num_clips": len(found.clips),
        "num_rejects": len(found.rejects),
        "num_speakers": len(found.clips["speaker"].unique()),
        "hours": float(np.asarray(found.clips["duration_s"]).sum()) / 3600,
    }


def score_lines(metrics: dict[str, Any]) -> str:
    """The score table that a job prints at its end: what to expect on new speakers first."""
    pooled, folds, selection, found = (metrics[name] for name in ("pooled", "folds", "selection", "estimate"))
    best = f"best of {selection['num_trials']}" if selection["num_trials"] > 1 else "one trial"
    lines = [
        "",
        f"scores to expect on new speakers: {found['name']}, {found['num_speakers']} speakers in {found['num_folds']} folds",
        f"{'':12}{'estimate':>10}  {'95 % interval':>18}  {best:>12}  {'mean of folds':>14}  {'std':>6}",
    ]
    for name in classification.METRICS:
        own = found["metrics"][name]
        lines.append(
            f"{name:12}{_number(own['value']):>10}  {_within(own):>18}  {_number(pooled[name]):>12}  "
            f"{_number(folds[name]['mean']):>14}  {_number(folds[name]['std']):>6}"
        )
    lines += [
        f"chance UAR is {metrics['chance_uar']:.3f}; {_choice(selection, found)}",
        *detail_lines(metrics),
        *_baseline_lines(metrics),
        *([caveat.removeprefix("; ")] if (caveat := provenance.caveat(metrics["encoder"])) else []),
        *(f"never predicted: {name}" for name in pooled["never_predicted"]),
        f"best trial: {metrics['trial']} ({selection['num_complete']} complete, {selection['num_pruned']} pruned, "
        f"{selection['num_failed']} failed): "
        + ", ".join(f"{path} {_short(value)}" for path, value in metrics["params"].items()),
    ]
    return "\n".join(lines)


def _within(own: Mapping[str, Any]) -> str:
    between = None if own["low"] is None else (own["low"], own["high"])
    return task_scores.within_text(between, own["undefined"])


def _choice(selection: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """How much the choice among trials flatters their best."""
    if selection["num_trials"] == 1:
        return "there is one trial, so these folds have chosen nothing"
    if selection["num_complete"] == 1:
        return "one trial is complete, so how much being chosen flatters it is unknown"
    optimism = found["optimism"][found["metric"]]
    by = "an unknown amount" if optimism is None else f"{100 * optimism:.1f} points of {found['metric']}"
    return f"being chosen flatters the best of {selection['num_trials']} by {by}"


def _baseline_lines(metrics: dict[str, Any]) -> list[str]:
    if "baseline" not in metrics:
        return []
    found = metrics["baseline"]
    higher = found["difference"]["uar"]
    within = task_scores.within_text(higher["interval"], higher["undefined"])
    return [
        f"baseline ({found['name']}): UAR {_number(found['pooled']['uar'])}, the estimate is higher by {_number(higher['value'])} {within}"
    ]


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
