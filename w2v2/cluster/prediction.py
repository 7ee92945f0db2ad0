"""A saved model over tasks of some clips each, on workers that keep it."""

import functools
import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from w2v2.cluster.chunks import chunks_of
from w2v2.cluster.workers import Workers, num_threads
from w2v2.config.decode import DecodeConfig
from w2v2.config.finetune import EvaluateConfig, PredictConfig, SavedModelConfig
from w2v2.config.text import TextConfig
from w2v2.data.clip_columns import TablesInOrder
from w2v2.data.groups import places_of
from w2v2.inference.prediction_records import (
    SCHEMA,
    ClipPlace,
    ClipPrediction,
    in_order,
    inputs_of,
    predictions_in_columns,
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
) -> Sequence[ClipPrediction]:
    """A prediction for every clip, in order; predictions that an earlier attempt of this run kept are not computed again.

    clips come from file_facts.add_file_facts; predictor is the name of model and decoding (predictor_name).
    """
    window_s, hop_s = (config.window_s, config.hop_s) if isinstance(config, PredictConfig) else (0.0, 0.0)
    inputs = inputs_of(clips, model=predictor, window_s=window_s, hop_s=hop_s)
    done = read_predictions(config.run, num_at_once=config.data.num_readers)
    places = clips.select(["clip_id", "uri", "start_s", "end_s"]).append_column("inputs", inputs)
    todo = places.filter(pa.array(places_of(inputs, done["inputs"]) < 0)) if len(done) else places
    if len(todo) < len(clips):
        logger.info("predictions: %d of %d clips were done before", len(clips) - len(todo), len(clips))
    return in_order([done, _predicted(workers, config, todo, predictor, window_s, hop_s)], inputs)


def _predicted(
    workers: Workers,
    config: SavedModelConfig,
    todo: pa.Table,
    predictor: str,
    window_s: float,
    hop_s: float,
) -> pa.Table:
    """The rows (prediction_records.SCHEMA) of the clips in todo, a table of their places and inputs."""
    sizes = config.resources
    gpus = workers.gpus(sizes.gpus_per_worker)
    cpus = min(1.0, sizes.cpus_per_worker) if gpus else sizes.cpus_per_worker
    at_once = sizes.num_workers or workers.slots(cpus=cpus, gpus=gpus)
    chunks = chunks_of(range(len(todo)), num_at_once=at_once, size=sizes.clips_per_part)
    predicted = TablesInOrder(SCHEMA)
    counts: Counter[str] = Counter()
    progress = Progress("predictions", len(todo), unit="clips")
    if todo:
        logger.info(
            "predictions: %d workers start and load the model; this may take a minute",
            min(at_once, len(chunks)),
        )
    task = workers.task(_predict_chunk, cpus=cpus, gpus=gpus)

    def done(number: int, result: list[ClipPrediction]) -> None:
        chunk, rows = chunks[number], predictions_in_columns(result).table
        inputs = todo["inputs"].slice(chunk[0], len(chunk)).combine_chunks()
        predicted.add(number, rows.set_column(rows.column_names.index("inputs"), "inputs", inputs))
        counts["done"] += len(chunk)
        progress(counts["done"])

    def submit(chunk: Sequence[int]) -> object:
        places = todo.slice(chunk[0], len(chunk)).to_pylist()
        clips = [(place, place.pop("inputs")) for place in places]
        return task.remote(clips, config, predictor, window_s, hop_s, num_threads(workers, cpus))

    workers.map_tasks(
        submit,
        chunks,
        num_at_once=at_once,
        on_done=done,
    )
    return predicted.all()


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
