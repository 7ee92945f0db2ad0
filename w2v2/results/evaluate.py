"""The end of an evaluation: predictions, metrics.json and the page."""

import logging
import time
from collections.abc import Sequence

import pyarrow as pa

from w2v2.config import command_line
from w2v2.config.finetune import EvaluateConfig
from w2v2.data import transcripts
from w2v2.data.accounting import account
from w2v2.data.manifest import Manifest
from w2v2.evaluation.decisions import decision_details, decision_lines
from w2v2.evaluation.details import class_details, detail_lines
from w2v2.evaluation.predictions import predictions_table, transcripts_table
from w2v2.evaluation.recording_quality import recording_details
from w2v2.evaluation.scores import score_lines, score_predictions
from w2v2.inference.prediction_records import ClipPrediction, values_of
from w2v2.json_types import Json, JsonObject
from w2v2.models import provenance
from w2v2.models.any_model import is_foreign
from w2v2.models.model_info import ModelInfo, read_card
from w2v2.results.sessions import with_sessions
from w2v2.storage import run_directory
from w2v2.storage.mapped_tables import on_disk
from w2v2.versions import library_versions
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def write_outcome(
    config: EvaluateConfig,
    manifest: Manifest,
    clip_predictions: Sequence[ClipPrediction],
    info: ModelInfo,
    *,
    digest: str,
    temperature: float | None,
    started: float,
) -> dict[str, Json]:
    """The metrics, after all files of the run directory have been written.

    manifest has the predicted clips, clip_predictions an item for every clip of the data. digest is the model's,
    temperature was applied to its probabilities (None: not). The evaluation began at `started` (monotonic).
    """
    predictions = on_disk(_predictions(manifest.clips, clip_predictions, info))
    run_directory.write_table(config.run, "predictions", predictions)
    seen = (
        provenance.overlap(config.model, manifest.clips) if provenance.records_clips(config.model) else None
    )
    metrics = _scores(config, predictions, manifest.clips, info)
    metrics |= {
        "job": "evaluate",
        "computed_on": _computed_on(config, manifest.clips, seen),
        **_seen_entries(seen),
        "model": {
            "uri": config.model,
            "digest": digest,
            **({} if temperature is None else {"temperature": temperature}),
        },
        "encoder": {"name": info.encoder.name},
        "clips": account(manifest),
        "seconds": round(time.monotonic() - started, 1),
        "versions": library_versions("torch", "transformers", "ray"),
        **(_about_transcripts(config, manifest.clips, info) if info.kind == "transcript" else {}),
    }
    metrics = with_sessions(config.run, metrics, same=("model", "computed_on"))
    run_directory.write_metrics(config.run, metrics)
    # Imported here: matplotlib takes a second, which an error need not wait for.
    from w2v2.reports.model_page import write_model_report

    page = write_model_report(config.run, {"manifest": manifest.clips, "predictions": predictions})
    logger.info("%s", "\n".join([score_lines(metrics), *detail_lines(metrics), *decision_lines(metrics)]))
    logger.info("page: %s", page)
    return metrics


def _scores(
    config: EvaluateConfig, predictions: pa.Table, clips: pa.Table, info: ModelInfo
) -> dict[str, Json]:
    card = {} if is_foreign(config.model) else read_card(config.model)
    scores = score_predictions(
        predictions,
        kind=info.kind,
        names=info.names,
        seed=0,
        midpoints=card.get("midpoints"),
        spaces=info.text is None or info.text.spaces,
    )
    return scores | _details(config, predictions, clips, info, card)


def _seen_entries(seen: provenance.Overlap | None) -> dict[str, Json]:
    """Numbers of speakers and clips that were seen in training; zeros where that was not recorded."""
    seen = seen or provenance.Overlap()
    return {
        "speakers_seen_in_training": seen.num_speakers,
        "clips_seen_in_training": seen.num_clips,
        "seen_as_audio_alone": {"speakers": seen.num_audio_speakers, "clips": seen.num_audio_clips},
    }


def _predictions(clips: pa.Table, clip_predictions: Sequence[ClipPrediction], info: ModelInfo) -> pa.Table:
    """The rows of predictions.parquet."""
    keep = ["clip_id", "speaker", "split"]
    if info.kind == "transcript":
        good = (clip for clip in clip_predictions if not clip.reject)
        return transcripts_table(clips, [clip.transcript for clip in good if clip.transcript], keep=keep)
    values = values_of(clip_predictions, num_outputs=len(info.names))
    return predictions_table(clips, values, kind=info.kind, names=info.names, keep=keep)


def _details(
    config: EvaluateConfig, predictions: pa.Table, clips: pa.Table, info: ModelInfo, card: JsonObject
) -> dict[str, Json]:
    """Details beyond the scores: slices and calibration of classes, decisions and patients of labels, quality of the recordings."""
    match info.kind:
        case "classes":
            temperature = None if config.calibrated else card.get("temperature")
            columns = config.data.slice_columns
            return class_details(
                predictions, clips, info.names, columns=columns, seed=0, temperature=temperature
            )
        case "multi_label":
            decisions = decision_details(predictions, info.names, thresholds=card.get("thresholds"), seed=0)
            return decisions | {"recordings": recording_details(clips)}
        case _:
            return {"recordings": recording_details(clips)}


def _about_transcripts(config: EvaluateConfig, clips: pa.Table, info: ModelInfo) -> dict[str, Json]:
    """`text` and `decoding` of metrics.json: characters that the model cannot write, sentences seen in training, the decoder."""
    references = clips["reference"].to_pylist()
    assert info.vocabulary is not None
    unknown = transcripts.warn_unknown(references, info.vocabulary, where=config.data.uri)
    num_seen = provenance.num_seen_texts(config.model, references)
    transcripts.warn_seen(num_seen, len(references), where="was seen in training")
    text: dict[str, Json] = {"unknown_characters": unknown, "num_seen_sentences": num_seen}
    return {"text": text, "decoding": command_line.tree(config.decode)}


def _computed_on(config: EvaluateConfig, clips: pa.Table, seen: provenance.Overlap | None) -> str:
    """A sentence on the scored clips and how many of them were seen in training; seen is None where that was not recorded."""
    num = len(clips["speaker"].unique())
    sentence = f"{counted(len(clips), 'clips')} of {counted(num, 'speakers')} of {config.data.uri}"
    sentence += f", split {config.split}" if config.split else ""
    if seen is None:
        return f"{sentence}; who trained the model is not known"
    if not seen:
        return f"{sentence}, none of whom trained the model, by name or by recording"
    caveat = seen.caveat("this model")
    logger.warning("%s", caveat)
    return f"{sentence}; {caveat}"
