"""What notebooks and programs use, without Ray: `from w2v2 import load_model, embed, predict, read_run`.

The numbers are those that `w2v2 predict` and `w2v2 extract-embeddings` write; for many hours of audio use these, which
compute on all machines and resume.
"""

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
import pyarrow as pa
import soundfile
from jaxtyping import Num

from w2v2.audio.decoding import AudioError
from w2v2.audio.waveforms import read_clip
from w2v2.config.data import AudioConfig, DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.config.text import TextConfig
from w2v2.data import manifest
from w2v2.data.corpora.label_table import is_table
from w2v2.data.rejects import RECORD
from w2v2.errors import Reject, UserError
from w2v2.inference import embedding
from w2v2.inference.prediction import predict_bodies
from w2v2.inference.predictions_table import rows_of
from w2v2.inference.reading import EMBEDDED
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

Waveform: TypeAlias = Num[np.ndarray, " samples"] | Num[np.ndarray, "samples channels"]
Clip: TypeAlias = str | os.PathLike[str] | Waveform
"""A file, a folder or gs:// prefix of audio files, a .csv of clips, or samples in [-1, 1] (or integers)."""
NUM_READERS = 16


def load_model(uri: str | os.PathLike[str]) -> SavedModel:
    """The model of a folder, local or gs://, that `w2v2 finetune` has written; or a CTC model by its folder or hub name.

    Raises UserError where there is none, or it is damaged.
    """
    return load_any(place_of_model(os.fspath(uri)), TextConfig())


@overload
def predict(
    model: SavedModel | str,
    clips: Clip | Sequence[Clip],
    *,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    output: Literal["pandas"] = ...,
) -> "pd.DataFrame": ...
@overload
def predict(
    model: SavedModel | str,
    clips: Clip | Sequence[Clip],
    *,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    output: Literal["arrow"],
) -> pa.Table: ...
def predict(
    model: SavedModel | str,
    clips: Clip | Sequence[Clip],
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
        clips: Paths, gs:// uris or arrays of samples, one or several.
        sampling_rate: Of arrays, in Hz.
        window_s: Seconds of a window; 0 is the whole clip.
        hop_s: Seconds from one window's start to the next one's; 0 is window_s.
        output: A pandas DataFrame or a pyarrow Table.

    Raises:
        UserError: With the reason, where a clip cannot be used.
    """
    saved = load_model(model) if isinstance(model, str) else model
    rows, bodies = _bodies(clips, sampling_rate)
    predictions = predict_bodies(rows, bodies, saved, window_s=window_s, hop_s=hop_s)
    _refuse_rejects([(prediction.clip_id, prediction.reject) for prediction in predictions])
    table = rows_of(pa.Table.from_pylist(rows), predictions, saved.info, saved.digest)
    return _as(table.drop_columns(["code_version", "created_at"]), output)


@overload
def embed(
    clips: Clip | Sequence[Clip],
    *,
    encoder: str = ...,
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
    clips: Clip | Sequence[Clip],
    *,
    encoder: str = ...,
    layers: Literal["last", "all"] | int | tuple[int, ...] = ...,
    pooling: Literal["mean", "sum", "max", "mean+std"] = ...,
    sampling_rate: int = ...,
    window_s: float = ...,
    hop_s: float = ...,
    audio: AudioConfig | None = ...,
    output: Literal["arrow"],
) -> pa.Table: ...
def embed(
    clips: Clip | Sequence[Clip],
    *,
    encoder: str = "tiny",
    layers: Literal["last", "all"] | int | tuple[int, ...] = "last",
    pooling: Literal["mean", "sum", "max", "mean+std"] = "mean",
    sampling_rate: int = 0,
    window_s: float = 0.0,
    hop_s: float = 0.0,
    audio: AudioConfig | None = None,
    output: Literal["pandas", "arrow"] = "pandas",
) -> "pd.DataFrame | pa.Table":
    """A row for each clip, layer and window: start_s, end_s and the vector in the column embedding.

    A vector is that of transformers' forward on the clip alone, to 1e-5, whatever else is given with it.

    Args:
        clips: Paths, gs:// uris or arrays of samples, one or several.
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
    vector = VectorConfig(name=encoder, layers=layers, pooling=pooling)
    config = ExtractConfig(audio=audio or AudioConfig(), encoder=vector, window_s=window_s, hop_s=hop_s)
    loaded, _ = loaded_encoder(embedding.encoder_config(vector), config.seed)
    rows, bodies = _bodies(clips, sampling_rate)
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
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return run_directory.read_metrics(self.uri)

    @cached_property
    def settings(self) -> dict[str, Any]:
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
    place = storage.expand(os.fspath(uri))
    if not storage.exists(storage.join(place, "config.yaml")):
        raise UserError(f"{place} is no run directory: it has no config.yaml; give the --run of a job")
    return Run(place)


# -- clips as they are given


def _bodies(
    clips: Clip | Sequence[Clip], sampling_rate: int
) -> tuple[list[dict[str, Any]], list[bytes | StorageError]]:
    """clip_id, uri, start_s and end_s of each clip, and the bytes of its file."""
    inputs = [clips] if isinstance(clips, str | os.PathLike | np.ndarray) else list(clips)
    if not inputs:
        raise UserError("no clip was given: give paths, gs:// uris or arrays of samples")
    rows: list[dict[str, Any]] = []
    bodies: dict[int, bytes] = {}
    for place, clip in enumerate(inputs):
        if isinstance(clip, np.ndarray):
            bodies[len(rows)] = _wav(clip, sampling_rate)
            rows.append({"clip_id": str(place), "uri": "", "start_s": 0.0, "end_s": math.inf})
        else:
            rows += _rows_of_path(os.fspath(clip))
    missing = [place for place in range(len(rows)) if place not in bodies]
    read = storage.read_many([rows[place]["uri"] for place in missing], num_at_once=NUM_READERS)
    by_place: dict[int, bytes | StorageError] = {**bodies, **dict(zip(missing, read, strict=True))}
    return rows, [by_place[place] for place in range(len(rows))]


def _rows_of_path(path: str) -> list[dict[str, Any]]:
    """A file as it is; the clips of a .csv, and the audio files below a folder or prefix."""
    data = DataConfig(uri=storage.expand(path), layout="csv" if is_table(path) else "files")
    if data.layout == "files" and storage.exists(data.uri) and not os.path.isdir(data.uri):
        return [{"clip_id": path, "uri": data.uri, "start_s": 0.0, "end_s": math.inf}]
    corpus = manifest.read(data, task="none")
    manifest.check_rejects(corpus, max_reject_fraction=0.0)
    return corpus.clips.select(["clip_id", "uri", "start_s", "end_s"]).to_pylist()


def _wav(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Samples as a file of floats, which is read as every other file is."""
    if sampling_rate <= 0:
        raise UserError(
            f"sampling_rate must say the rate of arrays in Hz, got {sampling_rate}: give sampling_rate=16000, say"
        )
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and samples.shape[1] > samples.shape[0]):
        raise UserError(
            f"an array must be [samples] or [samples, channels], got the shape {list(samples.shape)}"
        )
    if np.issubdtype(samples.dtype, np.integer):
        samples = samples / -float(np.iinfo(samples.dtype).min)
    sink = io.BytesIO()
    soundfile.write(sink, samples.astype(np.float32), sampling_rate, format="WAV", subtype="FLOAT")
    return sink.getvalue()


def _decoded(
    rows: Sequence[dict[str, Any]],
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


def _as(table: pa.Table, output: Literal["pandas", "arrow"]) -> Any:
    match output:
        case "pandas":
            return table.to_pandas()
        case "arrow":
            return table
        case other:
            raise UserError(f"output must be pandas or arrow, got {other}")
