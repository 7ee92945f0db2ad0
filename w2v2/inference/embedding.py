"""Waveforms to vectors: cut into windows, run through an encoder in batches by length, pooled."""

import contextlib
import datetime
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Float, Int
from torch import Tensor

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.audio.waveforms import normalized, windows
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.model import EncoderConfig
from w2v2.data.rejects import record_fields
from w2v2.errors import Reject
from w2v2.features.batches import batches_by_budget, collate
from w2v2.inference.reading import REJECTED
from w2v2.models.device import (
    fetched,
    on_device,
    padded_budget,
    pinned,
    prepared_ahead,
    select_device,
    to_device,
)
from w2v2.models.encoder import Encoder
from w2v2.models.malloc import malloc_keeps_freed_memory
from w2v2.models.pooling import Pooling, frame_mask, pool
from w2v2.tables.spec import TIMESTAMP

VECTORS = pa.list_(
    pa.struct(
        [
            ("layer", pa.string()),
            ("start_s", pa.float64()),
            ("end_s", pa.float64()),
            ("embedding", pa.list_(pa.float32())),
        ]
    )
)
"""The vectors of one clip: its layers and windows."""


# -- settings of the encoder


def encoder_config(vector: VectorConfig) -> EncoderConfig:
    """The settings of an Encoder that outputs the hidden states in `vector`."""
    whole = EncoderConfig(name=vector.name, train="head", pooling=vector.pooling)
    match vector.layers:
        case "last" | int():
            return replace(whole, layer=vector.layers)
        case "all":
            return replace(whole, layer="concat")
        case several:
            return replace(whole, layer="concat", layers=tuple(sorted(several)))


def layer_name(number: int, num_layers: int) -> str:
    """The name of a hidden state in the table: its number, or 'last', so that no state has two names.

    >>> layer_name(3, 12), layer_name(12, 12)
    ('3', 'last')
    """
    return "last" if number == num_layers else str(number)


# -- the encoder


@malloc_keeps_freed_memory()
@torch.no_grad()
def pooled_vectors(
    encoder: Encoder,
    waveforms: Sequence[Float[np.ndarray, " _"]],
    *,
    pooling: Pooling,
    batch_s: float = 0.0,
    precision: str = "float32",
    turn: AbstractContextManager[object] | None = None,
) -> list[Float[np.ndarray, "layers dim"]]:
    """The pooled hidden states of each 16 kHz waveform, in the order given.

    Threads that share an encoder share a lock, `turn`: one of them starts computations at a time, while the others prepare
    their batches or wait for their results.
    """
    device, turn = select_device(), turn or contextlib.nullcontext()
    encoder = encoder.to(device).eval()

    def prepare(batch: Int[np.ndarray, " batch"]) -> tuple[Tensor, Tensor]:
        chosen = [waveforms[index] for index in batch]
        if encoder.normalize and device.type == "cpu":
            chosen = [normalized(waveform) for waveform in chosen]
        padded, num_samples = collate(chosen)
        return pinned(padded, device), num_samples

    def compute(padded: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]) -> Tensor:
        if encoder.normalize and device.type != "cpu":
            padded = normalized_rows(padded, num_samples)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            features, num_frames = encoder.trunk(padded, num_samples)
            if encoder.cut.stage != "pooled":
                states, num_frames = encoder(features, num_frames)
                features = pool(states, num_frames, pooling)
        return features.float()

    lengths = np.array([len(w) for w in waveforms], dtype=np.int64)
    batches = batches_by_budget(lengths, max_padded=padded_budget(device, batch_s))
    started = []
    for batch, inputs in zip(batches, prepared_ahead(prepare, batches, device), strict=True):
        with turn:
            started.append((batch, fetched(compute(*on_device(device, *inputs)))))
    results: list[np.ndarray] = [np.empty((0, 0))] * len(waveforms)
    for batch, rows in started:
        for index, row in zip(batch, rows().numpy(), strict=True):
            results[index] = row if encoder.several else row[None]
    return results


def normalized_rows(
    padded: Float[Tensor, "batch samples"], num_samples: Int[Tensor, " batch"]
) -> Float[Tensor, "batch samples"]:
    """audio.waveforms.normalized of each row's own samples, on the device of the rows; zeros past a clip's end."""
    counts = to_device(num_samples, padded.device)
    count, inside = counts[:, None].double(), frame_mask(counts, padded.shape[1])
    wide = padded.double()
    centred = (wide - wide.sum(1, keepdim=True) / count) * inside
    variance = centred.square().sum(1, keepdim=True) / count
    return (centred / (variance + 1e-7).sqrt()).float()


def embed_clips(
    clips: pa.Table,
    encoder: Encoder,
    config: ExtractConfig,
    *,
    turn: AbstractContextManager[object] | None = None,
) -> pa.Table:
    """The clips, without their waveforms, with duration_s, created_at and VECTORS.

    A clip with a vector that is not finite is rejected; only clips with status EMBEDDED have vectors. For `turn` see
    pooled_vectors.
    """
    waveforms = _waveforms(clips)
    least = max(encoder.min_samples, round(config.audio.min_s * SAMPLE_RATE))
    spans = [
        windows(len(w), window_s=config.window_s, hop_s=config.hop_s, min_samples=least) if len(w) else []
        for w in waveforms
    ]
    pieces = [w[first:last] for w, of_clip in zip(waveforms, spans, strict=True) for first, last in of_clip]
    vector = config.encoder
    vectors = iter(
        pooled_vectors(
            encoder,
            pieces,
            pooling=vector.pooling,
            batch_s=vector.batch_s,
            precision=config.resources.precision,
            turn=turn,
        )
    )
    by_clip = [[next(vectors) for _ in of_clip] for of_clip in spans]
    finite = [all(np.isfinite(piece).all() for piece in of_clip) for of_clip in by_clip]
    states = vector.layer_numbers(encoder.num_layers)
    names = [layer_name(state, encoder.num_layers) for state in states]
    starts = clips["start_s"].to_pylist()
    made = [
        [
            (name, start_s + first / SAMPLE_RATE, start_s + last / SAMPLE_RATE, pooled)
            for (first, last), piece in zip(of_clip, pieces_of, strict=True)
            for name, pooled in zip(names, piece, strict=True)
        ]
        if good
        else []
        for of_clip, pieces_of, start_s, good in zip(spans, by_clip, starts, finite, strict=True)
    ]
    clips = _reject(clips, finite).drop_columns(["waveform"])
    now = datetime.datetime.now(datetime.UTC)
    clips = clips.append_column("duration_s", pa.array([len(w) / SAMPLE_RATE for w in waveforms]))
    clips = clips.append_column("created_at", pa.array([now] * len(clips), TIMESTAMP))
    return clips.append_column("vectors", _vectors(made))


def _waveforms(clips: pa.Table) -> list[Float[np.ndarray, " _"]]:
    column = clips["waveform"].combine_chunks()
    values, offsets = column.values.to_numpy(), column.offsets.to_numpy()
    return [values[first:last] for first, last in pairwise(offsets)]


def _reject(clips: pa.Table, finite: Sequence[bool]) -> pa.Table:
    reject = Reject(kind="not finite", detail="the encoder gave NaN or infinite numbers")
    for name, value in {"status": REJECTED, **record_fields(reject)}.items():
        column = pc.if_else(pa.array(finite, pa.bool_()), clips[name], value)
        clips = clips.set_column(clips.column_names.index(name), name, column)
    return clips


def _vectors(rows_by_clip: Sequence[Sequence[tuple[str, float, float, np.ndarray]]]) -> pa.Array:
    """A VECTORS array, made without Python numbers."""
    flat = [item for rows_of_clip in rows_by_clip for item in rows_of_clip]
    values = np.concatenate([item[3] for item in flat]) if flat else np.empty(0, np.float32)
    offsets = np.cumsum([0, *(len(item[3]) for item in flat)])
    columns = [
        pa.array([item[0] for item in flat], pa.string()),
        pa.array([item[1] for item in flat], pa.float64()),
        pa.array([item[2] for item in flat], pa.float64()),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, pa.float32())),
    ]
    rows = pa.StructArray.from_arrays(columns, fields=list(VECTORS.value_type))
    bounds = np.cumsum([0, *(len(rows_of_clip) for rows_of_clip in rows_by_clip)])
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), rows, type=VECTORS)
