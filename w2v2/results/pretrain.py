"""The end of a pre-training: tables, metrics.json, TensorBoard's events and the page."""

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.pretrain import PretrainConfig
from w2v2.data.accounting import account
from w2v2.data.manifest import Manifest
from w2v2.evaluation.recording_quality import recording_details
from w2v2.job_commands import command_of
from w2v2.json_types import Json, JsonObject
from w2v2.results.sessions import with_sessions
from w2v2.results.tensorboard import write_tensorboard
from w2v2.storage import run_directory
from w2v2.training.collapse import FEW_CODES_FRACTION, STUCK_GRADIENT_NORM, verdict
from w2v2.training.pretraining import PretrainResult
from w2v2.versions import library_versions

logger = logging.getLogger(__name__)


def write_outcome(
    config: PretrainConfig,
    corpus: Manifest,
    trained: PretrainResult,
    *,
    encoder: JsonObject,
    seconds: float,
) -> dict[str, Json]:
    """The run's numbers, after all files of the run directory have been written."""
    run_directory.write_table(
        config.run, "curves", pa.Table.from_pylist([dict(row) for row in trained.curve])
    )
    run_directory.write_table(config.run, "steps", pa.Table.from_pylist([dict(row) for row in trained.steps]))
    run_directory.write_table(config.run, "code_usage", trained.code_usage)
    metrics = _numbers(config, corpus, trained, encoder=encoder) | {"seconds": round(seconds, 1)}
    metrics = with_sessions(config.run, metrics)
    run_directory.write_metrics(config.run, metrics)
    write_tensorboard(config.run, _scalars(trained))
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.pretrain_page import write_pretrain_report

    page = write_pretrain_report(config.run)
    if trained.new_weights:
        logger.warning(
            "encoder: %s has no %s; they began with random weights",
            encoder["name"],
            " and ".join(trained.new_weights),
        )
    logger.info("%s", metrics["sentence"])
    logger.info("model: %s/model", config.run)
    logger.info("page: %s", page)
    return metrics


def _numbers(
    config: PretrainConfig, corpus: Manifest, trained: PretrainResult, *, encoder: JsonObject
) -> dict[str, Json]:
    """The entries of metrics.json on the last epoch, its health, the data and the versions."""
    last = trained.curve[-1]
    num_codes = len(trained.code_usage)
    judged = verdict(last, collapsed=trained.collapsed, num_codes=num_codes, has_clusters=config.has_clusters)
    clips = corpus.clips
    train = clips.filter(pc.equal(clips["split"], "train"))
    return {
        "job": "pretrain",
        "state": judged.state,
        "sentence": judged.sentence,
        "last": dict(last),
        "objective": config.pretrain.objective,
        "num_codes": num_codes,
        "alarms": {"perplexity": FEW_CODES_FRACTION * num_codes, "gradient_norm": STUCK_GRADIENT_NORM},
        "num_steps": trained.num_steps,
        "learning_rate": config.optim.learning_rate,
        "num_clips": {"train": len(train), "val": len(clips) - len(train)},
        "hours": {
            "train": pc.sum(train["duration_s"]).as_py() / 3600,
            "all": pc.sum(clips["duration_s"]).as_py() / 3600,
        },
        "encoder": {**encoder, "new_weights": list(trained.new_weights)},
        "model": {"uri": f"{config.run}/model"},
        "clips": account(corpus),
        "recordings": recording_details(clips),
        "versions": library_versions("torch", "transformers", "ray"),
    }


def write_fold_outcome(
    config: PretrainConfig, corpus: Manifest, of_folds: Sequence[JsonObject], *, seconds: float
) -> dict[str, Json]:
    """The numbers of a pre-training by fold, after its metrics.json and its page have been written.

    of_folds are the results of write_outcome, in the order of the folds.
    """
    names = ("state", "sentence", "last", "num_clips", "hours", "num_codes", "model")
    speakers = [sorted(set(_in_fold(corpus, fold)["speaker"].to_pylist())) for fold in range(len(of_folds))]
    metrics: dict[str, Json] = {
        "job": "pretrain",
        "per_fold": [
            {name: metrics_of_fold[name] for name in names} | {"held_out": held_out}
            for metrics_of_fold, held_out in zip(of_folds, speakers, strict=True)
        ],
        "encoder": dict(of_folds[0]["encoder"]),
        "seconds": round(seconds, 1),
        "versions": library_versions("torch", "transformers", "ray"),
    }
    run_directory.write_json(config.run, "metrics", metrics)
    from w2v2.reports.pretrain_folds_page import write_pretrain_folds_report

    page = write_pretrain_folds_report(config.run)
    logger.info("encoders by fold: %s --encoder.name %s", command_of("tune_folds"), config.run)
    logger.info("page: %s", page)
    return metrics


def _in_fold(corpus: Manifest, fold: int) -> pa.Table:
    return corpus.clips.filter(pc.equal(corpus.clips["fold"], fold))


def _scalars(trained: PretrainResult) -> dict[str, list[tuple[str, float, int]]]:
    scalars: dict[str, list[tuple[str, float, int]]] = {}
    for row in trained.curve:
        events = scalars.setdefault(str(row["split"]), [])
        events += [(n, v, row["step"]) for n, v in row.items() if n not in ("epoch", "step", "split")]
    names = ("gradient_norm", "learning_rate", "gumbel_temperature", "loss", "perplexity")
    scalars["steps"] = [(name, row[name], row["step"]) for row in trained.steps for name in names]
    return scalars
