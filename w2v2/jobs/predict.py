"""Write a saved model's predictions for recordings whose labels are not known.

    w2v2 predict --model runs/finetune/model interview.wav
    w2v2 predict --model runs/finetune/model --data.uri ~/recordings
    find . -name "*.mp3" | w2v2 predict --model runs/finetune/model --window_s 5 -
    w2v2 predict --model gs://bucket/runs/clinic/model --data.uri gs://bucket/audio --window_s 5 --hop_s 2.5 \
        --table bq://project.dataset.predictions --run gs://bucket/runs/predict

Reads   any folder or gs:// prefix of audio files, or a CSV of clips; labels are not needed.
Writes  a CSV, BigQuery, DuckDB or Parquet table, one row per clip or window; <run>/config.yaml
        rejects.parquet metrics.json report.html, with windows plots/timeline.png, and, to resume from, done/
The same command continues a run that was stopped: files that have not changed are not predicted again.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from w2v2.cluster import prediction
from w2v2.cluster.workers import start_workers
from w2v2.config import command_line, guide
from w2v2.config.finetune import PredictConfig
from w2v2.config.guide import Guide
from w2v2.config.text import TextConfig
from w2v2.data import file_facts, manifest, usable_clips
from w2v2.inference.operating_point import (
    name_in_table,
    temperature_of,
    thresholds_of,
    with_calibration,
)
from w2v2.inference.prediction_records import predicted_clips
from w2v2.inference.predictions_lines import NUM_LINES
from w2v2.inference.predictions_table import open_place, rows_of
from w2v2.json_types import Json
from w2v2.models import decoder
from w2v2.models.any_model import place_by_field, place_of_model, read_model
from w2v2.results.job_plans import plan_predict
from w2v2.results.predict import write_outcome
from w2v2.storage import files as storage
from w2v2.storage.lease import exclusive

logger = logging.getLogger("w2v2.jobs.predict")

GUIDE = Guide(
    command="predict",
    summary="Write what a saved model predicts for recordings whose labels are not known.",
    usage="[FILE ... | -] ",
    flags={
        "model": guide.MODEL,
        "data.uri": guide.DATA,
        "window_s": "predict windows of so many seconds; 0 is the whole clip",
        "hop_s": "seconds from one window to the next; 0 is window_s",
        "table": "a .csv, bq://..., duckdb://..., or a folder of Parquet",
        "words": "transcripts: the words with their times too",
        "data.max_reject_fraction": "stop when more of the clips cannot be used",
        "resources.num_workers": guide.COMPUTING,
        "resources.gpus_per_worker": guide.GPUS,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 predict --model runs/finetune/model interview.wav more/*.mp3     # a line each on the terminal",
        "w2v2 predict --model runs/finetune/model --data gs://bucket/audio --window_s 5 --table bq://p.d.predictions",
    ),
)


@exclusive
def main(config: PredictConfig) -> dict[str, Json]:
    """The content of metrics.json, after all is written."""
    started = time.monotonic()
    config = resolved(config)
    info, digest = read_model(config.model, TextConfig())
    config = replace(config, decode=decoder.of_model(config.model, info, config.decode))
    predictor = decoder.predictor_name(digest, config.decode)
    logger.info("run: %s, table: %s", config.run, config.table)
    temperature = temperature_of(config.model, info) if config.calibrated else None
    thresholds = thresholds_of(config.model, info) if config.decisions else None
    if not config.plan:
        open_place(config, info)  # a table that cannot be written is reported before anything is computed
    data = usable_clips.with_demo_made(config.data, task=info.kind)
    corpus = file_facts.without_missing_files(manifest.read(data, task="none"), data)
    if config.plan:
        return plan_predict(config, corpus, info, predictor=predictor)
    manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    few, num_workers = len(corpus.clips) <= NUM_LINES, config.resources.num_workers
    local = True if config.local == "auto" and few and not num_workers else config.local
    workers = start_workers(local=local, num_clips=len(corpus.clips), num_processes=num_workers or 1)
    workers.check_places(run=config.run, **place_by_field(config.model), **{"data.uri": config.data.uri})
    corpus = file_facts.add_file_facts(corpus, data)
    clip_predictions = prediction.predict(config, corpus.clips, predictor=predictor, workers=workers)
    clip_predictions = with_calibration(clip_predictions, temperature)
    name = name_in_table(predictor, temperature)
    rows = rows_of(corpus.clips, clip_predictions, info, name, words=config.words, thresholds=thresholds)
    corpus = predicted_clips(corpus, clip_predictions, facts=["tolerated"])
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    return write_outcome(
        config,
        corpus,
        rows,
        info,
        digest=digest,
        predictor=name,
        temperature=temperature,
        thresholds=thresholds,
        shows_lines=few,
        started=started,
    )


def resolved(config: PredictConfig) -> PredictConfig:
    """The config with places made absolute and the table named."""
    run = storage.expand(config.run)
    table = config.table or storage.join(run, "predictions.csv")
    table = table if "://" in table else storage.expand(table)
    return replace(
        config,
        run=run,
        model=place_of_model(config.model),
        data=usable_clips.with_absolute_uri(config.data),
        table=table,
    )


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, PredictConfig, args, guide=GUIDE, words="data.files")
