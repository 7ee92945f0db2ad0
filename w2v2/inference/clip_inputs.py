"""Clips as notebooks give them: paths, gs:// uris, arrays of samples, or a DataFrame with a row for each."""

import io
import math
import os
import tempfile
from collections.abc import Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

import numpy as np
import soundfile
from jaxtyping import Num

from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.corpora.label_table import is_table
from w2v2.errors import UserError
from w2v2.inference.prediction_records import ClipPlace
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

Waveform: TypeAlias = Num[np.ndarray, " samples"] | Num[np.ndarray, "samples channels"]
Clip: TypeAlias = str | os.PathLike[str] | Waveform
"""A file, a folder or gs:// prefix of audio files, a .csv of clips, or samples in [-1, 1] (or integers)."""
if TYPE_CHECKING:
    import pandas as pd

    Clips: TypeAlias = Clip | Sequence[Clip] | pd.DataFrame
    """One clip or several; or a DataFrame with a column uri (or file) and, for parts of recordings, start_s and end_s."""
else:
    Clips = Any  # pandas takes half a second to import; read_clip_inputs says what is no clip

NUM_READERS = 16
WANTED = "a clip is a path, a gs:// uri or an array of samples"


def read_clip_inputs(clips: Clips, sampling_rate: int) -> tuple[list[ClipPlace], list[bytes | StorageError]]:
    """clip_id, uri, start_s and end_s of each clip, and the bytes of its file; an array's clip_id is its place.

    Raises UserError for anything that is no clip.
    """
    rows: list[ClipPlace] = []
    bodies: dict[int, bytes] = {}
    if _is_frame(clips):
        rows = _rows_of_frame(clips)
    else:
        for place, clip in enumerate(_several(clips)):
            if isinstance(clip, str | os.PathLike):
                rows += _rows_of_path(os.fspath(clip))
            else:
                bodies[len(rows)] = _wav(_samples(clip, place), sampling_rate)
                rows.append({"clip_id": str(place), "uri": "", "start_s": 0.0, "end_s": math.inf})
    if not rows:
        raise UserError(
            "no clip was given: give paths, gs:// uris, arrays of samples or a DataFrame of clips"
        )
    missing = [place for place in range(len(rows)) if place not in bodies]
    read = storage.read_many([rows[place]["uri"] for place in missing], num_at_once=NUM_READERS)
    by_place: dict[int, bytes | StorageError] = {**bodies, **dict(zip(missing, read, strict=True))}
    return rows, [by_place[place] for place in range(len(rows))]


def _several(clips: Any) -> list[Any]:
    """The clips as a list, also where one is given."""
    if isinstance(clips, str | os.PathLike) or (hasattr(clips, "__array__") and not _is_series(clips)):
        return [clips]
    try:
        several = list(clips)
    except TypeError:
        raise UserError(f"{WANTED}, got {type(clips).__name__}") from None
    if several and all(isinstance(item, Real) for item in several):
        raise UserError(
            f"{WANTED}, got {len(several)} numbers: give them as one array, numpy.array(...), with its sampling_rate"
        )
    return several


def _is_frame(clips: Any) -> TypeGuard["pd.DataFrame"]:
    return hasattr(clips, "columns") and hasattr(clips, "to_csv")


def _is_series(clips: Any) -> bool:
    """Whether this is a column of a DataFrame, whose items are the clips."""
    return hasattr(clips, "to_list") and hasattr(clips, "to_csv")


def _rows_of_frame(frame: "pd.DataFrame") -> list[ClipPlace]:
    """The rows in the form of a .csv of clips; relative paths are relative to the folder where Python runs."""
    if not {"uri", "file"} & set(frame.columns) and {"uri", "file"} & set(frame.index.names):
        frame = frame.reset_index()  # audformat's
    name = next((name for name in ("uri", "file") if name in frame.columns), None)
    if name is None:
        columns = ", ".join(map(str, frame.columns)) or "none"
        raise UserError(
            f"a DataFrame of clips needs a column uri (or file) with their paths, got the columns {columns}"
        )
    given = [os.fspath(path) if isinstance(path, str | os.PathLike) else "" for path in frame[name]]
    if not all(given):
        raise UserError(
            f"row {given.index('')} of the DataFrame has no path in its column {name}: leave it out"
        )
    kept = frame[
        [column for column in ("clip_id", "start_s", "end_s", "start", "end") if column in frame.columns]
    ]
    if not len(kept.columns):
        kept = kept.assign(clip_id=given)
    with tempfile.TemporaryDirectory(prefix="w2v2-clips-") as folder:
        path = Path(folder) / "clips.csv"
        kept.assign(**{name: list(map(storage.expand, given))}).to_csv(path, index=False)
        return _rows_of_path(str(path)) if given else []


def _rows_of_path(path: str) -> list[ClipPlace]:
    """The file itself, the clips of a .csv, or the audio files below a folder or prefix."""
    data = DataConfig(uri=storage.expand(path), layout="csv" if is_table(path) else "files")
    if data.layout == "files" and storage.exists(data.uri) and not os.path.isdir(data.uri):
        return [{"clip_id": path, "uri": data.uri, "start_s": 0.0, "end_s": math.inf}]
    corpus = manifest.read(data, task="none")
    manifest.check_rejects(corpus, max_reject_fraction=0.0)
    return corpus.clips.select(["clip_id", "uri", "start_s", "end_s"]).to_pylist()


def _samples(clip: Any, place: int) -> np.ndarray:
    """The item as a NumPy array, if it is one, or a tensor."""
    samples = np.asarray(clip) if hasattr(clip, "__array__") else None
    if samples is None or not (
        np.issubdtype(samples.dtype, np.integer) or np.issubdtype(samples.dtype, np.floating)
    ):
        got = type(clip).__name__ if samples is None else f"an array of {samples.dtype}"
        raise UserError(f"clip {place}: {WANTED}, got {got}")
    return samples


def _wav(samples: np.ndarray, sampling_rate: int) -> bytes:
    """Samples as the bytes of a file of floats, which is then read like every other file."""
    if not isinstance(sampling_rate, Real) or not 0 < sampling_rate < 2**31 or sampling_rate % 1:
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
    soundfile.write(sink, samples.astype(np.float32), int(sampling_rate), format="WAV", subtype="FLOAT")
    return sink.getvalue()
