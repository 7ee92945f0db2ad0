"""Predictions of a saved model, kept in the run directory part by part, so that a stopped job resumes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float

from w2v2.audio.decoding import SAMPLE_RATE, decoder_of
from w2v2.audio.quality import Quality
from w2v2.config.digest import repr_digest
from w2v2.data.clip_columns import ClipColumns, TablesInOrder, table_of
from w2v2.data.groups import places_of
from w2v2.data.manifest import Manifest, with_rejects
from w2v2.data.recording_quality import QUALITY, recorded_quality
from w2v2.data.rejects import RECORD, record_fields, recorded_reject
from w2v2.errors import Reject
from w2v2.models.decoding import Transcript, Word
from w2v2.storage import files as storage
from w2v2.storage.mapped_tables import on_disk, whole
from w2v2.storage.parquet import ROWS_AT_ONCE, each_row, records, write_record

WORD = pa.struct(
    [("text", pa.string()), ("start_s", pa.float64()), ("end_s", pa.float64()), ("confidence", pa.float64())]
)
NUMBERS = pa.list_(pa.float64())
SCHEMA = pa.schema(
    [
        ("inputs", pa.string()),
        ("clip_id", pa.string()),
        ("start_s", NUMBERS),
        ("end_s", NUMBERS),
        ("values", pa.list_(NUMBERS)),
        ("duration_s", pa.float64()),
        ("audio_digest", pa.string()),
        *RECORD,
        ("tolerated", pa.string()),
        ("text", pa.string()),
        ("confidence", pa.float64()),
        ("words", pa.list_(WORD)),
        *QUALITY.items(),
    ]
)


class ClipPlace(TypedDict):
    """A clip to be predicted: its name, its file, and the part of the file in seconds."""

    clip_id: str
    uri: str
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class ClipPrediction:
    """The windows of one clip with the model's prediction for each, or the reject that says why it cannot be used."""

    clip_id: str
    spans: tuple[tuple[float, float], ...] = ()
    """Start and end of each window in the file, in seconds."""
    values: Float[np.ndarray, "windows outputs"] | None = None
    """Probabilities of classes or labels, or values of a regression."""
    transcript: Transcript | None = None
    """The transcript of the whole clip, where the model writes transcripts."""
    duration_s: float = 0.0
    """Length of the clip as the model received it."""
    audio_digest: str = ""
    """Digest of the samples that the model received (features.waveform_digest)."""
    tolerated: str = ""
    """What the file lacks, or its damage, although it is used (audio.decoding.Clip)."""
    quality: Quality | None = None
    """The recording quality; None where an earlier version did not measure it."""
    reject: Reject | None = None
    unread: bool = False
    """Whether its file could not be read; another try may succeed."""

    @property
    def num_samples(self) -> int:
        """Samples of the clip at 16 kHz."""
        return round(self.duration_s * SAMPLE_RATE)


FACTS = ("duration_s", "audio_digest", "tolerated")
"""Fields of a prediction that describe the clip's audio."""


def predicted_clips(
    manifest: Manifest, predictions: Sequence[ClipPrediction], *, facts: Sequence[str] = FACTS
) -> Manifest:
    """The clips that were predicted, with facts on their audio as columns; the others are rejects.

    predictions has an item for every clip, in order.
    """
    columns = _in_columns(predictions)
    is_rejected = _is_rejected(columns.table)
    num_rejected = pc.sum(is_rejected).as_py() or 0
    rejected: Sequence[ClipPrediction] = columns.among(is_rejected) if num_rejected else []
    kept = with_rejects(manifest, [(clip.clip_id, clip.reject) for clip in rejected if clip.reject])
    good = columns.among(pc.invert(is_rejected)).table
    clips = kept.clips
    for name in (*facts, *QUALITY):
        values = pc.fill_null(good[name], "") if name == "tolerated" else good[name]
        clips = clips.append_column(name, values)
    return replace(kept, clips=on_disk(clips) if num_rejected else clips)


def values_of(
    predictions: Sequence[ClipPrediction], *, num_outputs: int
) -> Float[np.ndarray, "clips outputs"]:
    """The outputs for each clip that is not rejected, in order; every one has been predicted as one window."""
    columns = _in_columns(predictions)
    good = columns.among(pc.invert(_is_rejected(columns.table))).table
    windows = whole(good["values"]).flatten()
    assert len(windows) == len(good), "one window for each clip"
    return windows.flatten().to_numpy().reshape(len(good), num_outputs)


def _in_columns(predictions: Sequence[ClipPrediction]) -> ClipColumns[ClipPrediction]:
    return predictions if isinstance(predictions, ClipColumns) else predictions_in_columns(predictions)


def _is_rejected(rows: pa.Table) -> pa.ChunkedArray:
    return pc.not_equal(pc.fill_null(rows["reason"], ""), "")


def inputs_of(clips: pa.Table, *, model: str, window_s: float, hop_s: float) -> pa.Array:
    """For each clip a digest of every input that its prediction depends on; `model` is the model's digest."""
    names = ("clip_id", "uri", "start_s", "end_s", "fingerprint")
    rows = (tuple(row[name] for name in names) for row in each_row(clips.select(names)))
    digests = ({"inputs": repr_digest(model, window_s, hop_s, *row, *decoder_of(row[1]))} for row in rows)
    return whole(table_of(digests, pa.schema([SCHEMA.field("inputs")]))["inputs"])


def write_predictions(run: str, predictions: Sequence[ClipPrediction], inputs: Sequence[str]) -> None:
    """Write predictions to `<run>/done`, except clips that another attempt may be able to read."""
    rows = [
        _row(prediction) | {"inputs": digest}
        for prediction, digest in zip(predictions, inputs, strict=True)
        if not prediction.unread
    ]
    if rows:
        write_record(storage.join(run, "done"), pa.Table.from_pylist(rows, schema=SCHEMA))


def predictions_in_columns(predictions: Iterable[ClipPrediction]) -> ClipColumns[ClipPrediction]:
    """The same predictions as the rows of a table."""
    return ClipColumns(table_of(map(_row, predictions), SCHEMA), _prediction)


def in_order(parts: Sequence[pa.Table], inputs: pa.Array) -> ClipColumns[ClipPrediction]:
    """The predictions with these inputs, in their order, of tables (SCHEMA) that have them."""
    filled = [part for part in parts if len(part)]
    rows = filled[0] if len(filled) == 1 else on_disk(pa.concat_tables(parts))
    if not rows["inputs"].equals(pa.chunked_array([inputs])):  # as after a first run
        places, ordered = places_of(inputs, rows["inputs"]), TablesInOrder(SCHEMA)
        for number, at in enumerate(range(0, len(places), ROWS_AT_ONCE)):
            ordered.add(number, rows.take(pa.array(places[at : at + ROWS_AT_ONCE])))
        rows = ordered.all()
    return ClipColumns(rows, _prediction)


def _row(prediction: ClipPrediction) -> dict[str, object]:
    return {
        "clip_id": prediction.clip_id,
        "start_s": [start for start, _ in prediction.spans],
        "end_s": [end for _, end in prediction.spans],
        "values": [] if prediction.values is None else prediction.values.tolist(),
        "duration_s": prediction.duration_s,
        "audio_digest": prediction.audio_digest,
        **record_fields(prediction.reject),
        "tolerated": prediction.tolerated,
        **(asdict(prediction.quality) if prediction.quality else {}),
        **(_text(prediction.transcript) if prediction.transcript else {}),
    }


def _text(transcript: Transcript) -> dict[str, object]:
    words = [asdict(word) for word in transcript.words]
    return {"text": transcript.text, "confidence": transcript.confidence, "words": words}


def read_predictions(run: str, *, num_at_once: int) -> pa.Table:
    """The predictions of earlier attempts of the run (SCHEMA)."""
    done = TablesInOrder(SCHEMA)
    for number, rows in enumerate(records(storage.join(run, "done"), SCHEMA, num_at_once=num_at_once)):
        done.add(number, rows)
    return done.all()


def _prediction(row: Mapping[str, Any]) -> ClipPrediction:
    return ClipPrediction(
        clip_id=row["clip_id"],
        spans=tuple(zip(row["start_s"], row["end_s"], strict=True)),
        values=None if row["reason"] or row["text"] is not None else np.array(row["values"]),
        transcript=None if row["text"] is None else _transcript(row),
        duration_s=row["duration_s"],
        audio_digest=row["audio_digest"],
        reject=recorded_reject(row),
        tolerated=row["tolerated"] or "",
        quality=recorded_quality(row),
    )


def _transcript(row: Mapping[str, Any]) -> Transcript:
    words = tuple(Word(**word) for word in row["words"])
    return Transcript(text=row["text"], confidence=row["confidence"], words=words)
