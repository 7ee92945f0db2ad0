"""Score a saved model on any data with labels.

    jobs/evaluate.py --model runs/finetune/model --data.uri other.csv --run runs/other
    jobs/evaluate.py --model gs://bucket/runs/clinic/model --data.layout clinic --data.uri gs://bucket/clinic --split test

Reads   RAVDESS files, a CSV of clips, a clinic folder, DEAM, LibriSpeech or Common Voice, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet predictions.parquet metrics.json report.html plots/ tables/
        and, to resume from, done/
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.cluster import prediction
from w2v2.cluster.workers import start_workers
from w2v2.config import command_line, guide
from w2v2.config.finetune import EvaluateConfig
from w2v2.config.guide import Guide
from w2v2.data import manifest, transcripts, usable_clips
from w2v2.data.accounting import account
from w2v2.data.scored_clips import read_scored_clips
from w2v2.evaluation.decisions import decision_details, decision_lines
from w2v2.evaluation.details import class_details, detail_lines
from w2v2.evaluation.predictions import predictions_table, transcripts_table
from w2v2.evaluation.scores import score_lines, score_predictions
from w2v2.inference.operating_point import temperature_of, with_calibration
from w2v2.inference.prediction_records import ClipPrediction, predicted_clips
from w2v2.machine import describe_run
from w2v2.models import decoder, provenance
from w2v2.models.any_model import convolutions_of, is_foreign, place_by_field, place_of_model, read_model
from w2v2.models.model_info import ModelInfo, read_card
from w2v2.results.job_plans import plan_evaluate
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive
from w2v2.versions import library_versions

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
def main(config: EvaluateConfig) -> dict[str, Any]:
    """The metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    info, digest = read_model(config.model, config.text)
    config = replace(config, decode=decoder.of_model(config.model, info, config.decode))
    logger.info("run: %s", config.run)
    temperature = temperature_of(config.model, info) if config.calibrated else None
    found = read_clips(config, info)
    if config.plan:
        return plan_evaluate(config, found, info, predictor=decoder.predictor_name(digest, config.decode))
    manifest.check_rejects(found, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    workers = start_workers(local=config.local)
    workers.check_places(run=config.run, **place_by_field(config.model), **{"data.uri": config.data.uri})
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    clip_predictions = prediction.predict(
        config,
        found.clips,
        predictor=decoder.predictor_name(digest, config.decode),
        workers=workers,
    )
    clip_predictions = with_calibration(clip_predictions, temperature)
    if info.kind == "transcript":
        clip_predictions = long_enough(config, found, clip_predictions)
    found = predicted_clips(found, clip_predictions)
    run_directory.write_table(config.run, "manifest", found.clips)
    manifest.check_rejects(found, max_reject_fraction=config.data.max_reject_fraction, run=config.run)
    predictions = predictions_of(found.clips, [one for one in clip_predictions if not one.reject], info)
    run_directory.write_table(config.run, "predictions", predictions)
    card = {} if is_foreign(config.model) else read_card(config.model)
    metrics = score_predictions(
        predictions,
        kind=info.kind,
        names=info.names,
        seed=0,
        midpoints=card.get("midpoints"),
        spaces=info.text is None or info.text.spaces,
    )
    metrics |= details(config, predictions, found.clips, info, card)
    is_known = provenance.says(config.model)
    heard = provenance.overlap(config.model, found.clips) if is_known else provenance.Overlap()
    metrics |= {
        "job": "evaluate",
        "computed_on": computed_on(config, found.clips, heard, is_known=is_known),
        "speakers_seen_in_training": heard.num_speakers,
        "clips_seen_in_training": heard.num_clips,
        "seen_as_audio_alone": {"speakers": heard.num_audio_speakers, "clips": heard.num_audio_clips},
        "model": {
            "uri": config.model,
            "digest": digest,
            **({} if temperature is None else {"temperature": temperature}),
        },
        "encoder": {"name": info.encoder.name},
        "clips": account(found),
        "seconds": round(time.monotonic() - started, 1),
        "made": describe_run(),
        "versions": library_versions("torch", "transformers", "ray"),
        **(about_transcripts(config, found.clips, info) if info.kind == "transcript" else {}),
    }
    run_directory.write_metrics(config.run, metrics)
    from w2v2.reports.model_page import write_model_report

    page = write_model_report(config.run)
    logger.info("%s", "\n".join([score_lines(metrics), *detail_lines(metrics), *decision_lines(metrics)]))
    logger.info("page: %s", page)
    return metrics


def resolved(config: EvaluateConfig) -> EvaluateConfig:
    """The config with places made absolute."""
    return replace(
        config,
        run=storage.expand(config.run),
        model=place_of_model(config.model),
        data=usable_clips.with_absolute_uri(config.data),
    )


def read_clips(config: EvaluateConfig, info: ModelInfo) -> manifest.Manifest:
    """The clips to score; raises UserError where they are not labelled with what the model predicts."""
    return read_scored_clips(
        config.data, split=config.split, kind=info.kind, names=info.names, text=info.text
    )


def long_enough(
    config: EvaluateConfig, found: manifest.Manifest, clip_predictions: list[ClipPrediction]
) -> list[ClipPrediction]:
    """What is predicted of each clip, or why it has too few frames for its transcript."""
    kernels, strides = convolutions_of(config.model)
    checked = []
    for one, reference in zip(clip_predictions, found.clips["reference"].to_pylist(), strict=True):
        num_samples = round(one.duration_s * SAMPLE_RATE)
        num_frames = transcripts.num_frames(num_samples, kernels=kernels, strides=strides)
        reject = one.reject or transcripts.reject_too_short(reference, num_frames)
        checked.append(replace(one, reject=reject))
    return checked


def predictions_of(clips: pa.Table, clip_predictions: list[ClipPrediction], info: ModelInfo) -> pa.Table:
    """The rows of predictions.parquet."""
    keep = ["clip_id", "speaker", "split"]
    if info.kind == "transcript":
        return transcripts_table(
            clips, [one.transcript for one in clip_predictions if one.transcript], keep=keep
        )
    values = np.concatenate([one.values for one in clip_predictions])
    return predictions_table(clips, values, kind=info.kind, names=info.names, keep=keep)


def details(
    config: EvaluateConfig, predictions: pa.Table, clips: pa.Table, info: ModelInfo, card: Mapping[str, Any]
) -> dict[str, Any]:
    """More than the scores: slices and calibration of classes, decisions and patients of several labels."""
    match info.kind:
        case "classes":
            temperature = None if config.calibrated else card.get("temperature")
            columns = config.data.slice_columns
            return class_details(
                predictions, clips, info.names, columns=columns, seed=0, temperature=temperature
            )
        case "multi_label":
            return decision_details(predictions, info.names, thresholds=card.get("thresholds"), seed=0)
        case _:
            return {}


def about_transcripts(config: EvaluateConfig, clips: pa.Table, info: ModelInfo) -> dict[str, Any]:
    """How text was decoded, which characters of the references the model cannot write, how many sentences trained it."""
    references = clips["reference"].to_pylist()
    assert info.vocabulary is not None
    unknown = transcripts.warn_unknown(references, info.vocabulary, where=config.data.uri)
    num_seen = provenance.num_seen_texts(config.model, references)
    if num_seen:
        logger.warning(
            "%d of %d clips have a transcript that was seen in training: their score is not of new sentences",
            num_seen,
            len(references),
        )
    text = {"unknown_characters": unknown, "num_seen_sentences": num_seen}
    return {"text": text, "decoding": command_line.tree(config.decode)}


def computed_on(config: EvaluateConfig, clips: pa.Table, heard: provenance.Overlap, *, is_known: bool) -> str:
    """A sentence on what the scores are of."""
    num = len(clips["speaker"].unique())
    sentence = f"{len(clips)} clips of {num} speakers of {config.data.uri}"
    sentence += f", split {config.split}" if config.split else ""
    if not is_known:
        return f"{sentence}; who trained the model is not known"
    if not heard:
        return f"{sentence}, none of whom trained the model, by name or by recording"
    caveat = heard.caveat("this model")
    logger.warning("%s", caveat)
    return f"{sentence}; {caveat}"


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, EvaluateConfig, args, guide=GUIDE, words="data.files")
