"""Files to waveforms of clips: read many at once, compared with the checksums in the table, decoded and checked."""

import base64
import math
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby

import google_crc32c
import pyarrow as pa

from w2v2.audio.decoding import AudioError
from w2v2.audio.waveforms import read_clip
from w2v2.config.data import AudioConfig
from w2v2.data.recording_quality import QUALITY
from w2v2.data.rejects import RECORD, record_fields
from w2v2.storage import files as storage
from w2v2.storage.files import StorageError

EMBEDDED, IN_TABLE, REJECTED, UNREADABLE = "embedded", "in_table", "rejected", "unreadable"
"""The outcome of a clip: vectors made; table has them; audio cannot be used; file could not be read.

Files of earlier versions have "there" in place of IN_TABLE; later attempts take only the checksum from such an outcome.
"""
CHECKSUM_IN_TABLE = "checksum_in_table"
"""The column of clips with the checksum of the audio whose vectors the table has; '' where it has none."""

DECODED = pa.schema(
    [
        ("status", pa.string()),
        *RECORD,
        ("checksum", pa.string()),
        ("sample_rate", pa.int64()),
        ("tolerated", pa.string()),
        *QUALITY.items(),
        ("waveform", pa.list_(pa.float32())),
    ]
)
"""The columns that reading adds to a clip; the waveform has 16 kHz, sample_rate is the rate of the file."""


def checksum_of(data: bytes) -> str:
    """The CRC32C of a file's bytes, as Google Cloud Storage writes it."""
    return f"crc32c={base64.b64encode(google_crc32c.value(data).to_bytes(4, 'big')).decode()}"


def read_clips(
    clips: pa.Table, *, audio: AudioConfig, num_readers: int, min_samples: int, max_s: float = math.inf
) -> Iterator[pa.Table]:
    """Each clip as a table of one row, with the columns DECODED; a file with successive clips is read once.

    clips has clip_id, uri, start_s, end_s and CHECKSUM_IN_TABLE.
    """
    segments = [
        list(rows_of_file)
        for _, rows_of_file in groupby(range(len(clips)), key=clips["uri"].to_pylist().__getitem__)
    ]
    uris = [clips["uri"][rows_of_file[0]].as_py() for rows_of_file in segments]
    for rows_of_file, body in zip(segments, storage.read_many(uris, num_at_once=num_readers), strict=True):
        checksum = "" if isinstance(body, StorageError) else checksum_of(body)
        for index in rows_of_file:
            row = clips.slice(index, 1)
            decoded = _decoded(row.to_pylist()[0], body, checksum, audio, min_samples, max_s)
            for field in DECODED:
                row = row.append_column(field, pa.array([decoded[field.name]], field.type))
            yield row


def _decoded(
    clip: dict, body: bytes | StorageError, checksum: str, audio: AudioConfig, min_samples: int, max_s: float
) -> dict:
    decoded: dict = {
        "status": "",
        **record_fields(None),
        "checksum": checksum,
        "sample_rate": 0,
        "tolerated": "",
        **dict.fromkeys(QUALITY),
        "waveform": [],
    }
    if isinstance(body, StorageError):
        return decoded | {"status": UNREADABLE, **record_fields(body.reject)}
    if clip[CHECKSUM_IN_TABLE] == checksum:
        return decoded | {"status": IN_TABLE}
    try:
        sound = read_clip(
            body, audio, start_s=clip["start_s"], end_s=clip["end_s"], min_samples=min_samples, max_s=max_s
        )
    except AudioError as error:
        return decoded | {"status": REJECTED, **record_fields(error.reject)}
    return decoded | {
        "status": EMBEDDED,
        "sample_rate": sound.sample_rate,
        "tolerated": sound.tolerated,
        **asdict(sound.quality),
        "waveform": sound.waveform,
    }
