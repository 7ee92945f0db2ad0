"""Functions for notebooks and programs, without Ray: `from w2v2 import load_model, embed, predict, read_run`.

The numbers are those that `w2v2 predict` and `w2v2 extract-embeddings` write; for many hours of audio use these, which
compute on all machines and resume.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from operator import index
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints, overload

import pyarrow as pa

from w2v2.audio.decoding import AudioError
from w2v2.audio.waveforms import read_clip
from w2v2.config.checks import at_least, check_hop
from w2v2.config.data import AudioConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.text import TextConfig
from w2v2.data.rejects import RECORD
from w2v2.errors import Reject, UserError
from w2v2.inference import embedding
from w2v2.inference.clip_inputs import Clips, read_clip_inputs
from w2v2.inference.prediction import predict_bodies
from w2v2.inference.prediction_records import ClipPlace
from w2v2.inference.predictions_table import rows_of
from w2v2.inference.reading import EMBEDDED
from w2v2.json_types import JsonObject
from w2v2.models.any_model import load_any, place_of_model
from w2v2.models.lengths import longest_s
from w2v2.models.pretrained import loaded_encoder
from w2v2.models.saved_model import SavedModel
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.files import StorageError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "embed", "load_model", "predict", "read_run"]


def load_model(uri: str | os.PathLike[str]) -> SavedModel:
    """The model of a folder, local or gs://, that `w2v2 finetune` has written; or a CTC model by its folder or hub name.

    Raises UserError where there is none, or it is damaged.
    """
    return load_any(place_of_model(_path("model", uri)), TextConfig())


@overload
def predict(
    model: SavedModel | str | os.PathLike[str],
    clips: Clips,
    *,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    output: Literal["pandas"] = ...,
) -> "pd.DataFrame": ...
@overload
def predict(
    model: SavedModel | str | os.PathLike[str],
    clips: Clips,
    *,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    output: Literal["arrow"],
) -> pa.Table: ...
def predict(
    model: SavedModel | str | os.PathLike[str],
    clips: Clips,
    *,
    sampling_rate: int = 0,
    window_s: float = 0.0,
    hop_s: float = 0.0,
    output: Literal["pandas", "arrow"] = "pandas",
) -> "pd.DataFrame | pa.Table":
    """A row for each clip, or each window of window_s seconds: start_s, end_s and what the model predicts.

    The columns are those of `w2v2 predict`: predicted and prob_<class> for classes, prob_<label> for labels,
    pred_<value> for values, text and confidence for transcripts, which are decoded greedily; without calibration.

    Args:
        model: What `load_model` gives, or the folder itself, local or gs://.
        clips: Paths, gs:// uris or arrays of samples, one or several; or a DataFrame with a column uri (or file) and, for
            parts of recordings, start_s and end_s.
        sampling_rate: Of arrays, in Hz.
        window_s: Seconds of a window; 0 is the whole clip.
        hop_s: Seconds from one window's start to the next one's; 0 is window_s.
        output: A pandas DataFrame or a pyarrow Table.

    Raises:
        UserError: With the reason, where a clip cannot be used.
    """
    _check_windows(window_s, hop_s)
    _check_one_of("output", output, ("pandas", "arrow"))
    saved = model if isinstance(model, SavedModel) else load_model(model)
    rows, bodies = read_clip_inputs(clips, sampling_rate)
    predictions = predict_bodies(rows, bodies, saved, window_s=window_s, hop_s=hop_s)
    _refuse_rejects([(prediction.clip_id, prediction.reject) for prediction in predictions])
    table = rows_of(pa.Table.from_pylist(rows), predictions, saved.info, saved.digest)
    return _as(table.drop_columns(["code_version", "created_at"]), output)


@overload
def embed(
    clips: Clips,
    *,
    encoder: str | os.PathLike[str] = ...,
    layers: Literal["last", "all"] | int | tuple[int, ...] = ...,
    pooling: Literal["mean", "sum", "max", "mean+std"] = ...,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    audio: AudioConfig | None = ...,
    output: Literal["pandas"] = ...,
) -> "pd.DataFrame": ...
@overload
def embed(
    clips: Clips,
    *,
    encoder: str | os.PathLike[str] = ...,
    layers: Literal["last", "all"] | int | tuple[int, ...] = ...,
    pooling: Literal["mean", "sum", "max", "mean+std"] = ...,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    audio: AudioConfig | None = ...,
    output: Literal["arrow"],
) -> pa.Table: ...
def embed(
    clips: Clips,
    *,
    encoder: str | os.PathLike[str] = "tiny",
    layers: Literal["last", "all"] | int | tuple[int, ...] = "last",
    pooling: Literal["mean", "sum", "max", "mean+std"] = "mean",
    sampling_rate: int = 0,
    window_s: float = 0.0,
    hop_s: float = 0.0,
    audio: AudioConfig | None = None,
    output: Literal["pandas", "arrow"] = "pandas",
) -> "pd.DataFrame | pa.Table":
    """A row for each clip, layer and window: start_s, end_s and the vector in the column embedding.

    A vector equals transformers' forward on the clip alone to 1e-5, whatever other clips are given.

    Args:
        clips: Paths, gs:// uris or arrays of samples, one or several; or a DataFrame with a column uri (or file) and, for
            parts of recordings, start_s and end_s.
        encoder: A hub name, a local folder, a gs:// folder, or 'tiny'.
        layers: Hidden states to pool, a row each: last, one number (0 enters the first layer), several, or all.
        pooling: How frames become one vector; only a clip's own frames count.
        sampling_rate: Of arrays, in Hz.
        window_s: Seconds of a window; 0 is the whole clip.
        hop_s: Seconds from one window's start to the next one's; 0 is window_s.
        audio: How waveforms are trimmed and cropped, and which lengths are refused.
        output: A pandas DataFrame or a pyarrow Table.

    Raises:
        UserError: With the reason, where a clip cannot be used.

    >>> import numpy as np
    >>> tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    >>> vectors = embed(tone, sampling_rate=8000)
    >>> len(vectors), float(vectors.end_s[0]), vectors.embedding[0].shape
    (1, 1.0, (48,))
    """
    _check_windows(window_s, hop_s)
    _check_one_of("pooling", pooling, get_args(get_type_hints(VectorConfig)["pooling"]))
    _check_one_of("output", output, ("pandas", "arrow"))
    if not isinstance(audio or AudioConfig(), AudioConfig):
        raise UserError(f"audio must be an AudioConfig, got {type(audio).__name__}: see w2v2.config.data")
    vector = VectorConfig(name=_path("encoder", encoder), layers=_layers(layers), pooling=pooling)
    config = ExtractConfig(audio=audio or AudioConfig(), encoder=vector, window_s=window_s, hop_s=hop_s)
    loaded, _ = loaded_encoder(embedding.encoder_config(vector), config.seed)
    rows, bodies = read_clip_inputs(clips, sampling_rate)
    read = _decoded(rows, bodies, config.audio, loaded.min_samples, longest_s(loaded, window_s=window_s))
    made = embedding.embed_clips(read, loaded, config)
    _refuse_rejects(
        [(row["clip_id"], row["reason"]) for row in made.select(["clip_id", "reason"]).to_pylist()]
    )
    lists = made["vectors"].combine_chunks()
    table = pa.Table.from_struct_array(lists.flatten())
    parents = pa.compute.list_parent_indices(lists)
    for place, name in enumerate(("clip_id", "uri")):
        table = table.add_column(place, name, made[name].take(parents))
    return _as(table, output)


@dataclass(frozen=True)
class Run:
    """A run directory, local or gs://: its numbers, its settings and its tables."""

    uri: str

    @cached_property
    def metrics(self) -> JsonObject:
        """The content of metrics.json."""
        return run_directory.read_metrics(self.uri)

    @cached_property
    def settings(self) -> JsonObject:
        """The content of config.yaml."""
        return run_directory.read_settings(self.uri)

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The names of its tables, such as predictions and trials."""
        uris = (file.uri.removeprefix(f"{self.uri}/") for file in storage.list_files(self.uri))
        return tuple(
            sorted(
                uri.removesuffix(".parquet") for uri in uris if uri.endswith(".parquet") and "/" not in uri
            )
        )

    def arrow(self, name: str) -> pa.Table:
        """One of its tables; raises UserError with their names where it has none of this name."""
        if name not in self.tables:
            raise UserError(f"{self.uri} has no table {name!r}; its tables are {', '.join(self.tables)}")
        return run_directory.read_table(self.uri, name)

    def __getitem__(self, name: str) -> "pd.DataFrame":
        return self.arrow(name).to_pandas()


def read_run(uri: str | os.PathLike[str]) -> Run:
    """The run in a directory that a job has written: `read_run("runs/base")["predictions"]` is a DataFrame.

    Raises UserError where there is no run.
    """
    place = storage.expand(_path("run", uri))
    if not storage.exists(storage.join(place, "config.yaml")):
        raise UserError(f"{place} is no run directory: it has no config.yaml; give the --run of a job")
    return Run(place)


def _decoded(
    rows: Sequence[ClipPlace],
    bodies: Sequence[bytes | StorageError],
    audio: AudioConfig,
    min_samples: int,
    max_s: float,
) -> pa.Table:
    """The clips with their waveforms, as embedding.embed_clips takes them."""
    waveform_rows = []
    for row, body in zip(rows, bodies, strict=True):
        try:
            clip = read_clip(
                body, audio, start_s=row["start_s"], end_s=row["end_s"], min_samples=min_samples, max_s=max_s
            )
        except (AudioError, StorageError) as error:
            raise UserError(f"clip {row['clip_id']}: {error}") from error
        waveform_rows.append(
            {**row, "status": EMBEDDED, **{name: "" for name, _ in RECORD}, "waveform": clip.waveform}
        )
    kinds = [
        ("clip_id", pa.string()),
        ("uri", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
    ]
    schema = pa.schema([*kinds, ("status", pa.string()), *RECORD, ("waveform", pa.list_(pa.float32()))])
    return pa.Table.from_pylist(waveform_rows, schema=schema)


def _refuse_rejects(rejects: Sequence[tuple[str, Reject | str | None]]) -> None:
    bad = [(clip_id, reason) for clip_id, reason in rejects if reason]
    if bad:
        clip_id, reason = bad[0]
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UserError(f"clip {clip_id}: {getattr(reason, 'reason', reason)}{more}: leave it out")


def _as(table: pa.Table, output: Literal["pandas", "arrow"]) -> "pd.DataFrame | pa.Table":
    return table.to_pandas() if output == "pandas" else table


def _path(what: str, name: object) -> str:
    """The name of a model, encoder or run as text. Raises UserError for anything but a name."""
    if not isinstance(name, str | os.PathLike):
        raise UserError(f"{what} is named by a path, a gs:// uri or a hub name, got {type(name).__name__}")
    return os.fspath(name)


def _layers(layers: Any) -> Any:
    """The layers, with whole numbers of other types, such as numpy's, as int. Raises UserError for anything else."""
    try:
        if isinstance(layers, str):
            return layers if layers in ("last", "all") else int(layers)
        return tuple(map(index, layers)) if isinstance(layers, Iterable) else index(layers)
    except (TypeError, ValueError):
        raise UserError(f"layers must be last, all, a number or several numbers, got {layers!r}") from None


def _check_windows(window_s: float, hop_s: float) -> None:
    """Raises UserError unless windows can be cut."""
    if not isinstance(window_s, Real) or not isinstance(hop_s, Real):
        raise UserError(f"window_s and hop_s are seconds, got {window_s!r} and {hop_s!r}")
    at_least("", SimpleNamespace(window_s=window_s), 0, "window_s")
    check_hop(window_s, hop_s)


def _check_one_of(name: str, value: object, wanted: Sequence[str]) -> None:
    """Raises UserError unless the value is one of those wanted."""
    if value not in wanted:
        raise UserError(f"{name} must be {', '.join(wanted[:-1])} or {wanted[-1]}, got {value!r}")
