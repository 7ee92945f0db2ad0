"""A saved model over Ray tasks: some clips each, on workers that keep it."""

import functools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from w2v2 import ray_cluster
from w2v2.job_config import EvaluateConfig, PredictConfig, WorkersConfig


def predict(config: EvaluateConfig | PredictConfig, clips: pa.Table, *, digest: str) -> list[Any]:
    """An inference.Said for every clip, in order."""
    workers = config.workers
    gpus = ray_cluster.gpus(workers.gpus_per_encoder)
    cpus = min(1.0, workers.cpus_per_encoder) if gpus else workers.cpus_per_encoder
    at_once = workers.num_encoders or ray_cluster.slots(cpus=cpus, gpus=gpus)
    rows = clips.select(["clip_id", "uri", "start_s", "end_s"]).to_pylist()
    size = workers.clips_per_part or max(8, min(64, -(-len(rows) // (4 * at_once))))
    chunks = [rows[at : at + size] for at in range(0, len(rows), size)]
    results: list[list[Any]] = [[]] * len(chunks)
    progress = ray_cluster.Progress("predictions", len(rows), unit="clips")
    task = ray_cluster.task(_predict_chunk, cpus=cpus, gpus=gpus)
    window_s, hop_s = (config.window_s, config.hop_s) if isinstance(config, PredictConfig) else (0.0, 0.0)
    settings = (config.model, digest, config.data.num_readers, window_s, hop_s, workers)

    def done(number: int, result: list[Any]) -> None:
        results[number] = result
        progress(sum(len(part) for part in results))

    ray_cluster.map_tasks(
        lambda chunk: task.remote(chunk, *settings), chunks, num_at_once=at_once, on_done=done
    )
    return [said for part in results for said in part]


@functools.lru_cache(maxsize=1)
def _loaded(uri: str, digest: str) -> Any:
    """The model, loaded once per process; another digest is another model."""
    from w2v2.model_folder import load_model

    return load_model(uri)


def _predict_chunk(
    clips: Sequence[dict[str, Any]],
    uri: str,
    digest: str,
    num_readers: int,
    window_s: float,
    hop_s: float,
    workers: WorkersConfig,
) -> list[Any]:
    """A Said for each clip; runs on a worker."""
    import torch

    from w2v2.inference import predict_clips

    torch.set_num_threads(max(1, int(workers.cpus_per_encoder)))
    return predict_clips(clips, _loaded(uri, digest), num_readers=num_readers, window_s=window_s, hop_s=hop_s)
