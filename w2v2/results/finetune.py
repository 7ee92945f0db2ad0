"""The end of a fine-tuning: tables, metrics.json, TensorBoard's events and the page."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.finetune import FinetuneConfig
from w2v2.data.manifest import Manifest
from w2v2.evaluation.predictions import predictions_table
from w2v2.evaluation.scores import score_lines, score_predictions
from w2v2.machine import describe_run
from w2v2.models import provenance
from w2v2.models.model_info import extend_card
from w2v2.results.tensorboard import training_scalars, write_tensorboard
from w2v2.storage import run_directory
from w2v2.versions import library_versions

if TYPE_CHECKING:  # imports torch
    from w2v2.training.finetuning import Finetuned

logger = logging.getLogger(__name__)


def write_outcome(
    config: FinetuneConfig,
    found: Manifest,
    names: Sequence[str],
    *,
    trained: "Finetuned",
    midpoints: Sequence[float] | None,
    encoder: Mapping[str, Any],
    trunk: Mapping[str, int],
    before: Mapping[str, Any] | None,
    seconds: float,
) -> dict[str, Any]:
    """The metrics of the test split, after all files of the run directory have been written.

    The model, written before, gets its scores into its card. midpoints are the means of the training targets of a
    regression, around which two values form quadrants.
    """
    kind = config.task.kind
    scored = found.clips.take(pa.array(trained.rows))
    predictions = predictions_table(
        scored, trained.values, kind=kind, names=names, keep=["clip_id", "speaker", "split"]
    )
    run_directory.write_table(config.run, "predictions", predictions)
    curves = pa.Table.from_pylist([asdict(point) for point in trained.curve], schema=CURVES)
    run_directory.write_table(config.run, "curves", curves)
    test = predictions.filter(pc.equal(predictions["split"], "test"))
    splits = {row["values"]: row["counts"] for row in found.clips["split"].value_counts().to_pylist()}
    metrics = score_predictions(test, kind=kind, names=names, seed=config.seed, midpoints=midpoints)
    metrics |= {
        "job": "finetune",
        "computed_on": f"the test split, once: {len(test)} clips of {metrics['num_speakers']} speakers whom nothing of the "
        "training has heard" + provenance.caveat(encoder),
        "splits": splits,
        "best_epoch": trained.best_epoch,
        "num_epochs": len(trained.curve),
        "encoder": dict(encoder),
        "model": {"digest": trained.digest, "uri": f"{config.run}/model"},
        "trunk": dict(trunk),
        "seconds": round(seconds, 1),
        "made": describe_run(),
        "versions": versions(),
    }
    if before is not None:
        metrics["before_remapping"] = before["pooled"]
    run_directory.write_json(config.run, "metrics", metrics)
    extend_card(metrics["model"]["uri"], {name: metrics[name] for name in ("computed_on", "pooled")})
    write_tensorboard(config.run, training_scalars(trained.curve))
    # Imported here: matplotlib takes a second, which the start of a job need not wait for.
    from w2v2.reports.model_page import write_model_report

    page = write_model_report(config.run)
    logger.info("%s", score_lines(metrics))
    logger.info("model: %s/model", config.run)
    logger.info("page: %s", page)
    return metrics


CURVES = pa.schema(
    [
        ("epoch", pa.int64()),
        ("train_loss", pa.float64()),
        ("train_uar", pa.float64()),
        ("learning_rate", pa.float64()),
        ("val_loss", pa.float64()),
    ]
)


def versions() -> dict[str, str]:
    """Of what the numbers depend on."""
    return library_versions("torch", "transformers", "ray")
