"""Score a saved model on any data with labels.

    w2v2 evaluate --model runs/finetune/model --data.uri other.csv --run runs/other
    w2v2 evaluate --model gs://bucket/runs/clinic/model --data.layout clinic --data.uri gs://bucket/clinic --split test

Reads   RAVDESS files, a CSV of clips, a clinic folder, DEAM, LibriSpeech or Common Voice, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet predictions.parquet metrics.json report.html plots/ tables/
        and, to resume from, done/
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from w2v2.cluster import prediction
from w2v2.cluster.workers import start_workers
from w2v2.config import command_line, guide
from w2v2.config.finetune import EvaluateConfig
from w2v2.config.guide import Guide
from w2v2.data import manifest, transcripts, usable_clips
from w2v2.data.scored_clips import read_scored_clips
from w2v2.inference.operating_point import temperature_of, with_calibration
from w2v2.inference.prediction_records import ClipPrediction, predicted_clips, predictions_in_columns
from w2v2.json_types import Json
from w2v2.models import decoder
from w2v2.models.any_model import convolutions_of, place_by_field, place_of_model, read_model
from w2v2.models.model_info import ModelInfo
from w2v2.results.job_plans import plan_evaluate
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive

logger = logging.getLogger("w2v2.jobs.evaluate")

GUIDE = Guide(
    command="evaluate",
    summary="Score a saved model on any data with labels.",
    usage="[FILE ... | -] ",
    flags={
        "model": guide.MODEL,
        "data.uri": guide.DATA,
        "data.layout": guide.LAYOUT,
        "data.label_column": "of a CSV: the column with the class",
        "data.speaker_column": "of a CSV: the column with the speaker",
        "data.slice_columns": "of a CSV: columns whose values are compared, such as [sex, device]",
        "split": "only clips of this split: train, val or test",
        "resources.num_workers": guide.COMPUTING,
        "resources.gpus_per_worker": guide.GPUS,
        "run": guide.RUN,
    },
    examples=(
        "w2v2 evaluate --model runs/finetune/model --data other.csv --run runs/other",
        "w2v2 evaluate --model gs://bucket/runs/clinic/model --data gs://bucket/clinic --data.layout clinic",
    ),
)


@exclusive
def main(config: EvaluateConfig) -> dict[str, Json]:
    """The metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    info, digest = read_model(config.model, config.text)
    config = replace(config, decode=decoder.of_model(config.model, info, config.decode))
    logger.info("run: %s", config.run)
    temperature = temperature_of(config.model, info) if config.calibrated else None
    corpus = read_clips(config, info)
    if config.plan:
        return plan_evaluate(config, corpus, info, predictor=decoder.predictor_name(digest, config.decode))
    manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    num_processes = config.resources.num_workers or 1
    workers = start_workers(local=config.local, num_clips=len(corpus.clips), num_processes=num_processes)
    workers.check_places(run=config.run, **place_by_field(config.model), **{"data.uri": config.data.uri})
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    clip_predictions = prediction.predict(
        config,
        corpus.clips,
        predictor=decoder.predictor_name(digest, config.decode),
        workers=workers,
    )
    clip_predictions = with_calibration(clip_predictions, temperature)
    if info.kind == "transcript":
        clip_predictions = long_enough(config, corpus, clip_predictions)
    corpus = predicted_clips(corpus, clip_predictions)
    run_directory.write_table(config.run, "manifest", corpus.clips)
    manifest.check_rejects(corpus, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    from w2v2.results.evaluate import write_outcome

    return write_outcome(
        config, corpus, clip_predictions, info, digest=digest, temperature=temperature, started=started
    )


def resolved(config: EvaluateConfig) -> EvaluateConfig:
    """The config with places made absolute."""
    return replace(
        config,
        run=storage.expand(config.run),
        model=place_of_model(config.model),
        data=usable_clips.with_absolute_uri(config.data),
    )


def read_clips(config: EvaluateConfig, info: ModelInfo) -> manifest.Manifest:
    """The clips to score. Raises UserError where their labels are not the ones that the model predicts."""
    return read_scored_clips(
        config.data, split=config.split, kind=info.kind, names=info.names, text=info.text
    )


def long_enough(
    config: EvaluateConfig, corpus: manifest.Manifest, clip_predictions: Sequence[ClipPrediction]
) -> Sequence[ClipPrediction]:
    """The predictions, with a reject for each clip that has too few frames for its transcript."""
    kernels, strides = convolutions_of(config.model)
    references = corpus.clips["reference"].to_pylist()
    made = transcripts.long_enough(clip_predictions, references, kernels=kernels, strides=strides)
    return predictions_in_columns(made)


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, EvaluateConfig, args, guide=GUIDE, words="data.files")
