"""The end of a prediction: rows of the table, metrics.json, the page and the lines in the terminal."""

import logging
import time
from collections.abc import Mapping

import pyarrow as pa

from w2v2.config.finetune import PredictConfig
from w2v2.data.accounting import account
from w2v2.data.manifest import Manifest
from w2v2.inference.predictions_lines import lines_of
from w2v2.inference.predictions_table import write_rows
from w2v2.json_types import Json
from w2v2.models.model_info import ModelInfo
from w2v2.reports.prediction_page import write_prediction_report
from w2v2.results.sessions import with_sessions
from w2v2.storage import run_directory
from w2v2.versions import library_versions
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def write_outcome(
    config: PredictConfig,
    corpus: Manifest,
    rows: pa.Table,
    info: ModelInfo,
    *,
    digest: str,
    predictor: str,
    temperature: float | None,
    thresholds: Mapping[str, float | None] | None,
    shows_lines: bool,
    started: float,
) -> dict[str, Json]:
    """The content of metrics.json, after the rows and all files of the run directory have been written.

    rows are those of the table, digest is the model's, and predictor the name that the rows have for it. shows_lines also
    logs a line for each row. The prediction began at `started` (monotonic).
    """
    write_rows(config, rows, info)
    if shows_lines:
        logger.info("%s", "\n".join(lines_of(rows, info)))
    num_clips = len(corpus.clips) + len(corpus.rejects)
    metrics: dict[str, Json] = {
        "job": "predict",
        "model": {"uri": config.model, "digest": digest},
        "predictor": predictor,
        "table": config.table,
        "temperature": temperature,
        "thresholds": thresholds,
        "num_clips": num_clips,
        "num_rows": len(rows),
        "rejected": len(corpus.rejects),
        "clips": account(corpus),
        "versions": library_versions("torch", "transformers", "ray"),
        "seconds": round(time.monotonic() - started, 1),
    }
    metrics = with_sessions(config.run, metrics, same=("predictor", "table", "num_rows"))
    run_directory.write_metrics(config.run, metrics)
    logger.info("page: %s", write_prediction_report(config.run, rows, info))
    logger.info(
        "%s, %s, %d rejected; %s",
        counted(num_clips, "clips"),
        counted(len(rows), "rows"),
        len(corpus.rejects),
        config.table,
    )
    return metrics
