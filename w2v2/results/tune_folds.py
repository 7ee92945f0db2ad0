"""The end of a search: tables, metrics.json, best.yaml, plots and the page."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
import pyarrow as pa
import yaml

from w2v2.config.command_line import dump
from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data import transcripts
from w2v2.data.accounting import account, data_summary
from w2v2.data.manifest import Manifest
from w2v2.evaluation import baseline_comparison
from w2v2.evaluation import scores as task_scores
from w2v2.evaluation.details import class_details
from w2v2.evaluation.fold_scores import fold_intervals, over_folds
from w2v2.evaluation.recording_quality import recording_details
from w2v2.evaluation.scores import number_text
from w2v2.json_types import Json, JsonObject
from w2v2.models import provenance
from w2v2.results.search_score_lines import estimate_interval, score_lines
from w2v2.results.sessions import with_sessions
from w2v2.results.tensorboard import search_scalars, write_tensorboard
from w2v2.search import summary
from w2v2.search.final_trainings import FILE, FinalTrainings, final_predictions, seed_spread
from w2v2.search.finished_search import FinishedSearch, read_finished
from w2v2.search.learning_curve import CurveTrainings
from w2v2.search.space import settings_of_trial
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.mapped_tables import on_disk
from w2v2.versions import library_versions

logger = logging.getLogger(__name__)


def write_outcome(
    config: TuneFoldsConfig,
    manifest: Manifest,
    classes: Sequence[str],
    study: optuna.Study,
    *,
    trunk: dict[str, int],
    encoders: Mapping[EncoderConfig, Mapping[str, str | list[str]]],
    baseline: baseline_comparison.Baseline | None,
    final: FinalTrainings | None = None,
    curve: CurveTrainings | None = None,
    seconds: float,
) -> dict[str, Json]:
    """The metrics, after all files of the run directory have been written from the study and the fold store.

    `encoders` has the entries of PreparedSearch.encoder_entries for each encoder of a trial; final and curve are the
    trainings after the search, if there were any.
    Raises UserError with the trials' errors when none has all its folds.
    """
    search = read_finished(config, classes, study, final=final)
    tables = _write_tables(config, search, manifest.clips)
    best, predictions = search.best(), tables["predictions"]
    entry = _encoder(config, best, encoders)
    scores = _scores(config, classes, best, tables["folds"], predictions, encoder=entry)
    estimates = _estimates(search, manifest.clips, scores["pooled"], baseline)
    metrics: dict[str, Json] = {
        "job": "tune_folds",
        # The number to believe comes first.
        **estimates,
        **scores,
        **_details(config, manifest.clips, predictions, classes),
        "data": data_summary(config.data.uri, manifest),
        "trunk": trunk,
        "clips": account(manifest),
        "seconds": round(seconds, 1),
        "versions": library_versions("torch", "transformers", "ray", "optuna"),
    }
    if curve is not None:
        run_directory.write_table(config.run, "learning_curve", curve.table(classes))
        metrics["learning_curve"] = curve.numbers(
            manifest.clips, classes, metric=config.search.metric, seed=config.seed
        )
    metrics = with_sessions(config.run, metrics)
    run_directory.write_metrics(config.run, metrics)
    best_yaml = best_config(config, best.params, estimates["estimate"])
    storage.write_text(storage.join(config.run, "best.yaml"), best_yaml)
    write_tensorboard(config.run, search_scalars(tables["curves"], tables["trials"]))
    logger.info("page: drawing the plots")
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.tune_page import write_tune_report

    page = write_tune_report(config.run, {**tables, "manifest": manifest.clips})
    logger.info("%s", score_lines(metrics))
    logger.info("page: %s", page)
    return metrics


def _write_tables(config: TuneFoldsConfig, search: FinishedSearch, clips: pa.Table) -> dict[str, pa.Table]:
    """The tables of trials, folds, curves and predictions, after they have been written.

    The table of trials is written even if no trial has all its folds.
    """
    folds = summary.folds_table(search.scores, search.classes)
    tables = {"trials": summary.trials_table(search.trials, folds)}
    run_directory.write_table(config.run, "trials", tables["trials"])
    search.best()  # the trials that failed are in their table by now
    tables |= {
        "folds": folds,
        "curves": summary.curves_table(search.scores),
        "predictions": on_disk(search.predictions(clips)),
    }
    for name in ("folds", "curves", "predictions"):
        run_directory.write_table(config.run, name, tables[name])
    return tables


def _estimates(
    search: FinishedSearch,
    clips: pa.Table,
    pooled: JsonObject,
    baseline: baseline_comparison.Baseline | None,
) -> JsonObject:
    """The estimate on new speakers, how much the choice among trials adds to the best score, and a baseline's scores if there is one."""
    scored, config, classes = search.scored(clips), search.config, search.classes
    best = pooled[config.search.metric]
    estimates: dict[str, Any] = {
        "estimate": search.estimate(scored, best=pooled),
        "selection": selection_of(search.trials, best=best, nested=search.nested_score()),
    }
    if search.final is not None:
        estimates["final"] = _final(search, search.final, clips)
    if baseline is None:
        return estimates
    comparison = baseline_comparison.side_by_side(scored, baseline, classes, seed=config.seed)
    return estimates | {"baseline": comparison}


def _final(search: FinishedSearch, final: FinalTrainings, clips: pa.Table) -> dict[str, Json]:
    """`final` of metrics.json, after final_predictions.parquet was written: each fold's choice, and each seed's scores."""
    predictions = final_predictions(final, clips, search.classes)
    run_directory.write_table(search.config.run, FILE, predictions)
    return {
        "seeds": final.replicates,
        "is_nested": final.is_nested,
        "choices": [
            {"fold": choice.fold, "trial": choice.trial, "params": choice.params} for choice in final.choices
        ],
        "spread": seed_spread(predictions, search.classes),
    }


def _scores(
    config: TuneFoldsConfig,
    classes: Sequence[str],
    best: optuna.trial.FrozenTrial,
    folds: pa.Table,
    predictions: pa.Table,
    *,
    encoder: JsonObject,
) -> JsonObject:
    """The best trial's scores, its encoder, and what the scores were computed on."""
    by_fold = fold_intervals(
        predictions, config.task.kind, classes, seed=config.seed, spaces=config.text.spaces
    )
    if config.task.kind == "transcript":
        scores = task_scores.score_predictions(
            predictions, kind="transcript", names=[], seed=config.seed, spaces=config.text.spaces
        )
    else:
        pooled = task_scores.pooled_metrics(predictions, classes, seed=config.seed)
        scores = {
            "classes": list(classes),
            "chance_uar": task_scores.chance_uar(pooled),
            "pooled": pooled,
            "by_speaker": task_scores.speaker_metrics(predictions, classes),
        }
    return {
        **scores,
        "trial": best.number,
        "params": best.params,
        "learning_rate": settings_of_trial(config, best.params).optim.learning_rate,
        "metric": config.search.metric,
        "computed_on": f"out-of-fold predictions of trial {best.number}: every clip is scored by the model of the "
        f"fold in which its speaker was held out ({config.folds.num_folds} folds, no speaker in two)"
        + provenance.caveat(encoder),
        "encoder": encoder,
        "folds": over_folds([row for row in folds.to_pylist() if row["trial"] == best.number], by_fold),
    }


def _details(
    config: TuneFoldsConfig, clips: pa.Table, predictions: pa.Table, classes: Sequence[str]
) -> dict[str, Json]:
    """Slices and calibration of classes; for transcripts the number of sentences that are also in another fold; quality of the recordings."""
    if config.task.kind != "transcript":
        columns = config.data.slice_columns
        return class_details(predictions, clips, classes, columns=columns, seed=config.seed)
    num_seen = transcripts.num_in_other_folds(clips)
    transcripts.warn_seen(num_seen, len(clips), where="another fold has, too")
    return {"text": {"num_seen_sentences": num_seen}, "recordings": recording_details(clips)}


def _encoder(
    config: TuneFoldsConfig,
    best: optuna.trial.FrozenTrial,
    encoders: Mapping[EncoderConfig, Mapping[str, str | list[str]]],
) -> dict[str, Json]:
    """`encoder` of metrics.json: the encoder of the best trial."""
    encoder = settings_of_trial(config, best.params).encoder
    named = {name: getattr(encoder, name) for name in ("name", "train", "pooling", "layer")}
    return named | dict(encoders[encoder])


def best_config(config: TuneFoldsConfig, params: dict[str, Json], estimate: JsonObject) -> str:
    """YAML with the best hyperparameters in place, without what belongs to the search and this run.

    A comment on top has the estimated score on new speakers.
    """
    tree = yaml.safe_load(dump(settings_of_trial(config, params)))
    for name in ("run", "search", "folds", "baseline"):
        tree.pop(name)
    tree["tuned_on"] = config.run
    score = estimate["metrics"][estimate["metric"]]
    worth = f"# {estimate['metric']} on new speakers: {number_text(score['value'])} {estimate_interval(score)} ({estimate['name']})\n"
    return worth + yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)


def selection_of(
    trials: Sequence[optuna.trial.FrozenTrial], *, best: float | None, nested: float | None
) -> dict[str, Json]:
    """`selection` of metrics.json: the numbers of trials by state, the best and the nested score, and a note.

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
