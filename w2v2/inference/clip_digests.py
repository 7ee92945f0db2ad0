"""For each clip a digest of all that its vectors depend on; values that many clips share are hashed once, and texts by column.

The digests are hashes of the repr() of tuples, as in records and tables of earlier versions.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.audio.decoding import decoder_of
from w2v2.config.data import FIRST_AUDIO_FIELDS
from w2v2.config.digest import NUM_DIGITS, positional, repr_digest, settings_digest

if TYPE_CHECKING:
    from w2v2.inference.extraction import ExtractionJob

VERSION = 1
"""Raised when the arithmetic of vectors changes, so that old ones are not taken for new ones."""

_SUFFIX = r"(?P<suffix>\.[^./]*)\z"


@dataclass(frozen=True, kw_only=True)
class SettingsDigests:
    """For each clip a digest of all that its vectors depend on except audio and weights."""

    now: pa.Array
    first: pa.Array
    """The digests of earlier versions, which hashed all fields by position: their rows and records are as valid."""


def settings_digests(job: "ExtractionJob", clips: pa.Table) -> SettingsDigests:
    """The digests of the clips' settings, segments and decoders: each combination of these is hashed once."""
    config = job.config
    sections = {"window_s": config.window_s, "hop_s": config.hop_s, "precision": config.resources.precision}
    common = settings_digest("extraction", arithmetic=VERSION, audio=config.audio, **sections)
    values = positional(config.audio, FIRST_AUDIO_FIELDS)
    before = (VERSION, values, *sections.values())
    # The suffix stands for the name, as decoder_of looks only at the suffix.
    suffixes = pc.fill_null(pc.extract_regex(clips["uri"], _SUFFIX).combine_chunks().field("suffix"), "")
    combinations, place = _combinations([suffixes, clips["start_s"], clips["end_s"]])
    rows = [(decoder_of(suffix), start_s, end_s) for suffix, start_s, end_s in combinations]
    now = pa.array(
        [repr_digest(common, *decoder, start_s, end_s) for decoder, start_s, end_s in rows], pa.string()
    ).take(place)
    if values is None:
        return SettingsDigests(now=now, first=now)
    first = pa.array(
        [repr_digest((*before, *decoder), start_s, end_s) for decoder, start_s, end_s in rows], pa.string()
    ).take(place)
    return SettingsDigests(now=now, first=first)


def _combinations(columns: Sequence[pa.Array | pa.ChunkedArray]) -> tuple[list[tuple], pa.Array]:
    """The distinct rows of some columns without nulls, and for each row its place among the distinct ones."""
    encoded = [_encoded(column) for column in columns]
    code = np.zeros(len(columns[0]), np.int64)
    for column in encoded:
        code = code * max(1, len(column.dictionary)) + column.indices.to_numpy()
    _, first, place = np.unique(code, return_index=True, return_inverse=True)
    return list(
        zip(*(column.take(pa.array(first)).to_pylist() for column in encoded), strict=True)
    ), pa.array(place)


def inputs_digests(job: "ExtractionJob", clips: pa.Table, settings: pa.Array) -> pa.Array:
    """For each clip a digest of all that its vectors depend on; settings are those of settings_digests."""
    names = ("start_s", "end_s", "uri", "fingerprint", *job.config.extra_columns)
    identity = (job.digest, job.layers, job.config.extra_columns, tuple(job.constants.items()))
    texts = pc.binary_join_element_wise(*map(_reprs, (settings, *(clips[name] for name in names))), ", ")
    ends = pc.cast(pc.binary_join_element_wise(texts, "", ")"), pa.binary()).to_pylist()
    # The text of repr_digest(identity, *row), whose beginning is hashed once.
    begun = hashlib.sha256(f"({identity!r}, ".encode())
    return pa.array([_digest_of_text(begun, end) for end in ends], pa.string())


def _digest_of_text(begun: "hashlib._Hash", end: bytes) -> str:
    whole = begun.copy()
    whole.update(end)
    return whole.hexdigest()[:NUM_DIGITS]


def _reprs(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The repr() of each value of a column of texts or numbers."""
    if not pa.types.is_string(column.type):
        encoded = _encoded(column)
        return pa.array(map(repr, encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    is_plain = pc.fill_null(_is_plain(column), False)
    quoted = pc.binary_join_element_wise("", column, "", "'")
    if pc.all(is_plain).as_py() is not False:
        return quoted
    others = map(repr, column.filter(pc.invert(is_plain)).to_pylist())
    return pc.replace_with_mask(quoted, pc.invert(is_plain), pa.array(others, pa.string()))


def _is_plain(column: pa.Array) -> pa.Array:
    """Whether the repr() of each text is the text between apostrophes."""
    is_escaped = pc.or_(pc.match_substring(column, "'"), pc.match_substring(column, "\\"))
    return pc.and_not(pc.ascii_is_printable(column), is_escaped)


def _encoded(column: pa.Array | pa.ChunkedArray) -> pa.DictionaryArray:
    """The column with each different value once."""
    whole = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pc.dictionary_encode(whole)
