"""Every clip's features, prepared once by tasks before anything trains."""

import functools
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ParamSpec

import pyarrow as pa

from w2v2.cluster.chunks import chunks_of
from w2v2.cluster.workers import Task, ThisProcess, Workers, num_threads, start_workers
from w2v2.config.data import CacheConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.model import EncoderConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.clip_columns import TablesInOrder
from w2v2.errors import UserError
from w2v2.features.encoder_info import EncoderInfo, RecordedEncoders
from w2v2.features.requests import (
    FEATURES,
    AudioIndex,
    ClipColumns,
    ClipFeatures,
    Request,
    features_in_columns,
    features_of,
)
from w2v2.models.cut import POOLINGS_WITH_WEIGHTS
from w2v2.models.imports import import_models
from w2v2.progress import Progress
from w2v2.search.prepared_search import PreparedSearch

if TYPE_CHECKING:  # imports torch
    from w2v2.models.encoder import Encoder

logger = logging.getLogger(__name__)

P = ParamSpec("P")

NUM_LOADED = 2
"""Encoders whose features are computed in one round over the clips: as many as a worker keeps loaded."""

Prepares = TuneFoldsConfig | FinetuneConfig | PretrainConfig


def inspect_encoder(config: EncoderConfig, cache: CacheConfig, precision: str, seed: int) -> EncoderInfo:
    """The facts about an encoder that the driver needs; runs on a worker, which keeps the encoder for later tasks."""
    import_models()
    from w2v2.features.trunk_features import trunk_key
    from w2v2.models.pretrained import loaded_encoder

    encoder, digest = loaded_encoder(config, seed)
    return EncoderInfo(
        digest=digest,
        cut=str(encoder.cut),
        key=trunk_key(encoder, digest, cache=cache, precision=precision),
        num_layers=encoder.num_layers,
        num_parameters=sum(p.numel() for p in encoder.parameters()),
        kernels=encoder.kernels,
        strides=encoder.strides,
        vector_size=_vector_size(encoder),
    )


def _vector_size(encoder: "Encoder") -> int:
    """Numbers that a clip's pooled vectors have."""
    from w2v2.models.pooling import pooled_dim

    if encoder.cut.stage != "pooled":
        return 0
    num_states = len(encoder.states) if encoder.several else 1
    return num_states * pooled_dim(encoder.dim, encoder.config.pooling)


def prepare_chunk(
    requests: Sequence[Request],
    encoders: Sequence[tuple[EncoderConfig, str]],
    config: Prepares,
    num_threads: int,
) -> list[ClipFeatures]:
    """A ClipFeatures for each request; runs on a worker."""
    import_models()
    import torch

    from w2v2.features.cache import FeatureCache
    from w2v2.features.preparation import prepare
    from w2v2.features.trunk_features import TrunkFeatures
    from w2v2.models.pretrained import loaded_encoder

    torch.set_num_threads(num_threads)
    trunks = [
        TrunkFeatures(
            encoder=loaded_encoder(encoder, config.seed)[0],
            cache=FeatureCache(config.cache, key),
            precision=config.resources.precision,
        )
        for encoder, key in encoders
    ]
    return prepare(requests, kinds=trunks, audio=config.audio, num_readers=config.data.num_readers)


class FeaturePreparation:
    """The job's encoders and the features of its clips; workers start to load at once.

    Raises UserError where resources.precision is bf16 and the workers have no GPU.
    """

    def __init__(
        self,
        config: Prepares,
        *,
        encoders: Sequence[EncoderConfig],
        cpus: float,
        gpus: float,
        workers: Workers,
    ) -> None:
        if config.resources.precision == "bf16" and not gpus:
            raise UserError(
                "resources.precision is bf16 but there is no GPU for it in this cluster: use float32, which is faster on a CPU"
            )
        self._config, self._cpus, self._gpus, self._workers = config, cpus, gpus, workers
        self.encoders = encoders
        inspect = self._task(inspect_encoder)
        # One answer would do, but all workers are asked, so that they import and load at the same time.
        num_workers = workers.slots(cpus=cpus, gpus=gpus, now=True)
        logger.info(
            "encoder: loading %s on %d worker(s); this may take a minute", encoders[0].name, num_workers
        )
        asked = [*encoders, *itertools.repeat(encoders[0], max(0, num_workers - len(encoders)))]
        self._asked = [
            inspect.remote(e, config.cache, config.resources.precision, config.seed) for e in asked
        ]

    @functools.cached_property
    def infos(self) -> list[EncoderInfo]:
        """The facts about each encoder, from a worker. Raises UserError when one cannot be loaded."""
        asked = self._asked[: len(self.encoders)]
        infos: list[EncoderInfo] = [self._workers.get(reference) for reference in asked]
        precision, seed = self._config.resources.precision, self._config.seed
        stored = RecordedEncoders(self._config.cache, precision=precision, seed=seed)
        for encoder, info in zip(self.encoders, infos, strict=True):
            stored.add(encoder, info)
            logger.info(
                "encoder: %s, %.2f M parameters, %d layers, trains %s (cut: %s), digest %s",
                encoder.name,
                info.num_parameters / 1e6,
                info.num_layers,
                encoder.train,
                info.cut,
                info.digest,
            )
        return infos

    def _task(self, function: Callable[P, object]) -> Task[P]:
        """A task as large as a trial."""
        return self._workers.task(function, cpus=self._cpus, gpus=self._gpus)

    def run(self, clips: pa.Table) -> ClipColumns[ClipFeatures]:
        """A ClipFeatures for every clip, in order; cached features are not computed again."""
        index = AudioIndex(self._config.data, self._config.audio, self._config.cache)
        requests = index.requests(clips, is_looked_up=True)
        num_at_once = self._workers.slots(cpus=self._cpus, gpus=self._gpus)
        distinct = {info.key: encoder for encoder, info in zip(self.encoders, self.infos, strict=True)}
        encoders = [(encoder, key) for key, encoder in distinct.items()]
        rounds = [encoders[at : at + NUM_LOADED] for at in range(0, len(encoders), NUM_LOADED)]
        parts = [self._over_tasks(requests, loaded, num_at_once) for loaded in rounds]
        prepared = parts[0]
        if len(parts) > 1:
            prepared = features_in_columns(map(_of_all_rounds, zip(*parts, strict=True)))
        index.save(requests, prepared)
        return prepared

    def _over_tasks(
        self, requests: Sequence[Request], encoders: Sequence[tuple[EncoderConfig, str]], num_at_once: int
    ) -> ClipColumns[ClipFeatures]:
        chunks = chunks_of(range(len(requests)), num_at_once=num_at_once)
        threads = num_threads(self._workers, self._cpus)
        results = TablesInOrder(FEATURES)
        task = self._task(prepare_chunk)
        progress = Progress("features", len(requests), unit="clips")
        counts: Counter[str] = Counter()
        computes = any(info.cut != "waveform" for info in self.infos)

        def done(index: int, result: list[ClipFeatures]) -> None:
            results.add(index, features_in_columns(result).table)
            counts["done"] += len(result)
            if computes:
                counts["cached"] += sum(not clip.num_forwards and not clip.reject for clip in result)
            note = f"{counts['cached']} of them from the cache" if counts["cached"] else ""
            progress(counts["done"], note=note)

        self._workers.map_tasks(
            lambda chunk: task.remote(requests[chunk[0] : chunk[-1] + 1], encoders, self._config, threads),
            chunks,
            num_at_once=num_at_once,
            on_done=done,
        )
        return features_of(results.all())


def _of_all_rounds(rounds: Sequence[ClipFeatures]) -> ClipFeatures:
    """A clip after several rounds over encoders: rejected where one of them could not use it."""
    rejected = next((clip for clip in rounds if clip.reject), None)
    return rejected or replace(rounds[0], num_forwards=sum(clip.num_forwards for clip in rounds))


def prepare_search(
    config: TuneFoldsConfig, encoders: Sequence[EncoderConfig], clips: pa.Table
) -> PreparedSearch:
    """The encoders and features of a search, computed by workers where the cache lacks them; starts the workers."""
    # One process trains all heads on pooled vectors; other searches are faster with several processes.
    heads = all(
        encoder.train == "head" and encoder.pooling not in POOLINGS_WITH_WEIGHTS for encoder in encoders
    )
    heads = heads and config.resources.num_workers == 1
    workers = start_workers(local=config.local, num_clips=len(clips), num_processes=1 if heads else 0)
    workers.check_places(**{"run": config.run, "data.uri": config.data.uri, "cache.uri": config.cache.uri})
    gpus = workers.gpus(config.resources.gpus_per_worker)
    preparation = FeaturePreparation(
        config, encoders=encoders, cpus=config.resources.cpus_per_worker, gpus=gpus, workers=workers
    )

    if not isinstance(workers, ThisProcess):
        from w2v2.cluster import search  # noqa: F401  takes a second to import, as the workers do meanwhile

    features = preparation.run(clips)
    infos = dict(zip(preparation.encoders, preparation.infos, strict=True))
    return PreparedSearch(infos=infos, features=features, gpus=gpus)
