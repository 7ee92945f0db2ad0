"""Provenance of a model: hashes of the speakers and recordings that trained it, kept in its folder.

A score on them is reported as such, so that it is not taken for a score on unseen speakers.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.data.groups import dictionary_encoded
from w2v2.errors import UserError
from w2v2.storage import files as storage
from w2v2.storage.mapped_tables import whole
from w2v2.storage.parquet import to_parquet
from w2v2.storage.seals import parse_parquet

logger = logging.getLogger(__name__)

FILE = "trained_on.parquet"
TEXTS_FILE = "trained_on_text.parquet"
TEXTS_SCHEMA = pa.schema([("text_digest", pa.string())])
SCHEMA = pa.schema([("speaker", pa.string()), ("audio_digest", pa.string()), ("how", pa.string())])
"""speaker is null where it is unknown; files of versions without pre-training have no column how."""

How = Literal["labels", "audio"]
"""How clips trained a model: with their labels, or by their audio alone, as in pre-training."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How many of some speakers and clips were seen in a model's training."""

    num_speakers: int = 0
    """Speakers with the name of one in its training, who may be another person."""
    num_clips: int = 0
    """Clips with the same samples as a training clip, under any speaker's name."""
    num_audio_speakers: int = 0
    """Further speakers whose audio, without labels, pre-trained it."""
    num_audio_clips: int = 0
    """Further clips whose audio, without labels, pre-trained it."""

    def __bool__(self) -> bool:
        return bool(str(self))

    def __str__(self) -> str:
        labels = _counts(self.num_speakers, self.num_clips)
        audio = _counts(self.num_audio_speakers, self.num_audio_clips)
        return " and ".join(filter(None, (labels, audio and f"{audio} (audio only, without labels)")))

    def caveat(self, what: str) -> str:
        """A warning for scores on these clips: certain for the same recordings, a mere possibility for the same names; '' without overlap."""
        num_names = self.num_speakers + self.num_audio_speakers
        names = f"{num_names} of the speakers have the name of one in its training" if num_names else ""
        audio = _counts(0, self.num_audio_clips)
        clips = filter(None, (_counts(0, self.num_clips), audio and f"{audio} (audio only, without labels)"))
        if recordings := " and ".join(clips):
            also = f", and {names}" if names else ""
            return f"{recordings} TRAINED {what.upper()}{also}, so this is no score of unseen speakers"
        if names:
            return f"as for {what}, {names}: IF THEY ARE THE SAME PEOPLE, this is no score of unseen speakers"
        return ""


def _counts(num_speakers: int, num_clips: int) -> str:
    who = f"{num_speakers} of the speakers" if num_speakers else ""
    clips = f"{num_clips} of the clips" if num_clips else ""
    return " and ".join(filter(None, (who, clips)))


def write(uri: str, clips: pa.Table, *, encoder: str, how: How = "labels") -> None:
    """Write to a model folder hashes of its training clips (speaker, audio_digest) and of the clips that trained its encoder.

    encoder is the name of the encoder that training began with; '' for random weights. Raises UserError where the record
    in the encoder's folder is damaged.
    """
    names = _speakers(clips)
    marks = dict(zip(names, _marks(names), strict=True))
    encoded = dictionary_encoded(clips["speaker"])
    of_names = pa.array([marks.get(name) for name in encoded.dictionary.to_pylist()], pa.string())
    speakers = of_names.take(encoded.indices)
    rows = pa.table([speakers, clips["audio_digest"], pa.repeat(how, len(clips))], schema=SCHEMA)
    if encoder and records_clips(encoder):
        rows = pa.concat_tables([rows, _read(encoder)])
    storage.write_bytes(storage.join(uri, FILE), to_parquet(rows, sealed=True))
    if "reference" in clips.column_names:
        texts = {_text_mark(text) for text in clips["reference"].to_pylist()} | _texts(encoder)
        marked = pa.table([pa.array(sorted(texts), pa.string())], schema=TEXTS_SCHEMA)
        storage.write_bytes(storage.join(uri, TEXTS_FILE), to_parquet(marked, sealed=True))


def records_clips(name: str) -> bool:
    """Whether this is a model folder that records its training clips; hub names and other folders do not."""
    return storage.exists(_place(name))


def overlap(uri: str, clips: pa.Table) -> Overlap:
    """The overlap of these clips (speaker, audio_digest) with the training clips of a model folder that records them.

    Raises UserError where the record is damaged.
    """
    rows = _read(uri)
    marks = set(_marks(_speakers(clips)))
    labels, audio = (rows.filter(pc.equal(rows["how"], how)) for how in get_args(How))
    taught, pretrained = (marks & set(part["speaker"].unique().to_pylist()) for part in (labels, audio))
    is_seen, is_seen_audio = (
        pc.is_in(clips["audio_digest"], value_set=whole(part["audio_digest"])) for part in (labels, audio)
    )
    return Overlap(
        num_speakers=len(taught),
        num_clips=pc.sum(is_seen).as_py() or 0,
        num_audio_speakers=len(pretrained - taught),
        num_audio_clips=pc.sum(pc.and_not(is_seen_audio, is_seen)).as_py() or 0,
    )


def num_seen_texts(uri: str, references: Sequence[str]) -> int:
    """How many of these transcripts, normalised as the model's, were seen in training; 0 without a record.

    Raises UserError where the record is damaged.
    """
    texts = _texts(uri)
    return sum(bool(reference) and _text_mark(reference) in texts for reference in references)


def encoder_overlap(name: str, clips: pa.Table) -> dict[str, str]:
    """{"seen_in_training": a sentence on clips that trained the encoder, or ''}; {} for an encoder without a record.

    The sentence is logged as a warning, too.
    """
    if not records_clips(name):
        return {}
    sentence = overlap(name, clips).caveat("the encoder")
    if sentence:
        logger.warning("encoder %s: %s", name, sentence)
    return {"seen_in_training": sentence}


def caveat(encoder: Mapping[str, str]) -> str:
    """The end of a sentence on what a score was computed on, from encoder_overlap; '' if nothing was seen in training."""
    seen = encoder.get("seen_in_training")
    return f"; but {seen}" if seen else ""


def tuning_caveat(run: str, clips: pa.Table) -> str:
    """The end of a sentence on a score of clips that a search used to choose the settings; '' if it did not.

    run is the search's directory, whose manifest.parquet names its speakers and recordings.
    """
    if not run:
        return ""
    try:
        manifest = storage.join(storage.expand(run), "manifest.parquet")
        rows = parse_parquet(manifest, storage.read_bytes(manifest))
    except storage.StorageError:
        logger.warning("tuned_on %s cannot be read: whether its clips are in the test split is unknown", run)
        return (
            f"; the search that chose the settings, {run}, cannot be read: these clips may be among its own"
        )
    num_clips = pc.sum(pc.is_in(clips["audio_digest"], value_set=whole(rows["audio_digest"]))).as_py() or 0
    names = len(set(clips["speaker"].unique().to_pylist()) & set(rows["speaker"].unique().to_pylist()))
    if not num_clips and not names:
        return ""
    seen = (
        f"{num_clips} of these clips chose the settings"
        if num_clips
        else f"{names} of these speakers have the name of one"
    )
    words = f"; but {seen} in the search {run}, so this is NO SCORE OF SPEAKERS UNSEEN BY THE SEARCH"
    logger.warning("scored clips%s", words.replace("; but", ":"))
    return words


def _texts(uri: str) -> set[str]:
    """Hashes of the transcripts that a model was trained on; none for models of other tasks."""
    place = storage.join(storage.expand(uri), TEXTS_FILE)
    if not storage.exists(place):
        return set()
    try:
        rows = parse_parquet(place, storage.read_bytes(place), TEXTS_SCHEMA)
    except storage.DamagedError as error:
        raise UserError(
            f"model {uri!r}: {TEXTS_FILE} cannot be read ({error}): save the model again"
        ) from error
    return set(rows["text_digest"].to_pylist())


def _text_mark(text: str) -> str:
    return hashlib.sha256(f"text:{text}".encode()).hexdigest()[:16]


def _place(uri: str) -> str:
    return storage.join(storage.expand(uri), FILE)


def _read(uri: str) -> pa.Table:
    body = storage.read_bytes(_place(uri))
    try:
        rows = parse_parquet(_place(uri), body, SCHEMA)
    except storage.DamagedError as error:
        raise UserError(f"model {uri!r}: {FILE} cannot be read ({error}): save the model again") from error
    return rows.set_column(2, SCHEMA.field("how"), pc.fill_null(rows["how"], "labels"))


def _speakers(clips: pa.Table) -> list[str]:
    """The named speakers, each once."""
    return sorted(set(clips["speaker"].unique().to_pylist()) - {""})


def _marks(speakers: Sequence[str]) -> list[str]:
    """A hash of each name."""
    return [hashlib.sha256(f"speaker:{name}".encode()).hexdigest()[:12] for name in speakers]
