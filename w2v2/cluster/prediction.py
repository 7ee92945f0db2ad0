"""A saved model over tasks of some clips each, on workers that keep it."""

import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from w2v2.cluster.chunks import chunks_of
from w2v2.cluster.workers import Workers, num_threads
from w2v2.config.decode import DecodeConfig
from w2v2.config.finetune import EvaluateConfig, PredictConfig, SavedModelConfig
from w2v2.config.text import TextConfig
from w2v2.inference.prediction_records import (
    ClipPlace,
    ClipPrediction,
    inputs_of,
    read_predictions,
    write_predictions,
)
from w2v2.models.imports import import_models
from w2v2.progress import Progress

if TYPE_CHECKING:  # imports torch
    from w2v2.models.decoder import Decoder
    from w2v2.models.saved_model import SavedModel

logger = logging.getLogger(__name__)


def predict(
    config: SavedModelConfig, clips: pa.Table, *, predictor: str, workers: Workers
) -> list[ClipPrediction]:
    """A prediction for every clip, in order; those kept by an earlier attempt of this run are not computed again.

    clips are those of file_facts.add_file_facts; predictor is the name of model and decoding (predictor_name).
    """
    window_s, hop_s = (config.window_s, config.hop_s) if isinstance(config, PredictConfig) else (0.0, 0.0)
    inputs = inputs_of(clips, model=predictor, window_s=window_s, hop_s=hop_s)
    predictions = read_predictions(config.run, num_at_once=config.data.num_readers)
    rows = clips.select(["clip_id", "uri", "start_s", "end_s"]).to_pylist()
    todo = [(row, key) for row, key in zip(rows, inputs, strict=True) if key not in predictions]
    if len(todo) < len(rows):
        logger.info("predictions: %d of %d clips were done before", len(rows) - len(todo), len(rows))
    predictions |= _predicted(workers, config, todo, predictor, window_s, hop_s)
    return [predictions[key] for key in inputs]


def _predicted(
    workers: Workers,
    config: SavedModelConfig,
    todo: Sequence[tuple[ClipPlace, str]],
    predictor: str,
    window_s: float,
    hop_s: float,
) -> dict[str, ClipPrediction]:
    sizes = config.resources
    gpus = workers.gpus(sizes.gpus_per_worker)
    cpus = min(1.0, sizes.cpus_per_worker) if gpus else sizes.cpus_per_worker
    at_once = sizes.num_workers or workers.slots(cpus=cpus, gpus=gpus)
    chunks = chunks_of(todo, num_at_once=at_once, size=sizes.clips_per_part)
    predictions: dict[str, ClipPrediction] = {}
    progress = Progress("predictions", len(todo), unit="clips")
    if todo:
        logger.info(
            "predictions: %d workers start and load the model; this may take a minute",
            min(at_once, len(chunks)),
        )
    task = workers.task(_predict_chunk, cpus=cpus, gpus=gpus)

    def done(number: int, result: list[ClipPrediction]) -> None:
        predictions.update(zip((key for _, key in chunks[number]), result, strict=True))
        progress(len(predictions))

    workers.map_tasks(
        lambda chunk: task.remote(chunk, config, predictor, window_s, hop_s, num_threads(workers, cpus)),
        chunks,
        num_at_once=at_once,
        on_done=done,
    )
    return predictions


@functools.lru_cache(maxsize=1)
def _loaded(
    uri: str, text: TextConfig, decode: DecodeConfig, predictor: str
) -> "tuple[SavedModel, Decoder | None]":
    """The model and the decoder of its transcripts, loaded once per process; another predictor is another model."""
    from w2v2.models.any_model import load_any
    from w2v2.models.decoder import make_decoder

    saved = load_any(uri, text)
    vocabulary = saved.info.vocabulary
    return saved, make_decoder(decode, vocabulary) if vocabulary is not None else None


def _predict_chunk(
    chunk: Sequence[tuple[ClipPlace, str]],
    config: SavedModelConfig,
    predictor: str,
    window_s: float,
    hop_s: float,
    threads: int,
) -> list[ClipPrediction]:
    """A prediction for each clip, also written to the run directory; runs on a worker."""
    import_models()
    import torch

    from w2v2.inference.prediction import predict_clips

    torch.set_num_threads(threads)
    text = config.text if isinstance(config, EvaluateConfig) else TextConfig()
    saved, decoder = _loaded(config.model, text, config.decode, predictor)
    predictions = predict_clips(
        [clip for clip, _ in chunk],
        saved,
        num_readers=config.data.num_readers,
        window_s=window_s,
        hop_s=hop_s,
        decoder=decoder,
    )
    write_predictions(config.run, predictions, [key for _, key in chunk])
    return predictions
