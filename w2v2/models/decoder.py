"""Decoders of frames to text by settings, and their files: given by the user, or kept in a model folder."""

import hashlib
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from w2v2.config.decode import LM_WORDS, DecodeConfig
from w2v2.config.digest import changed, settings_digest
from w2v2.data.text import Vocabulary
from w2v2.errors import UserError
from w2v2.job_commands import command_of
from w2v2.models.beam_search import BeamSearch, LanguageModel, check_installed, read_words
from w2v2.models.decoding import Transcript, forced_path, greedy_path, transcript_of
from w2v2.models.model_info import ModelInfo
from w2v2.storage import files as storage

LM_FILE = "language_model.arpa"
LEXICON_FILE = "lexicon.txt"


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """Decodes frames to a transcript: greedily, or by a beam search whose text is aligned to the frames."""

    vocabulary: Vocabulary
    search: BeamSearch | None = None

    def transcript(
        self,
        log_probabilities: Float[np.ndarray, "frames outputs"],
        *,
        frame_s: float,
        start_s: float = 0.0,
    ) -> Transcript:
        """The text of a clip that starts at start_s, its confidence and its words with their times."""
        if self.search is None:
            path = greedy_path(log_probabilities)
        else:
            labels = self.search.labels(log_probabilities)
            path = forced_path(log_probabilities, labels, blank=self.vocabulary.blank)
        return transcript_of(path, log_probabilities, self.vocabulary, frame_s=frame_s, start_s=start_s)


def make_decoder(decode: DecodeConfig, vocabulary: Vocabulary) -> Decoder:
    """The decoder of these settings, in which all weights are set."""
    if decode.kind == "greedy":
        return Decoder(vocabulary=vocabulary)
    return Decoder(vocabulary=vocabulary, search=BeamSearch(open_language_model(decode, vocabulary), decode))


def open_language_model(decode: DecodeConfig, vocabulary: Vocabulary) -> LanguageModel:
    """The language model of the settings with its lexicon, read from local files or gs://."""
    with ExitStack() as stack:
        lm = _local(stack, decode.lm)
        is_file = decode.lexicon not in ("", LM_WORDS)
        lexicon_file = _local(stack, decode.lexicon) if is_file else None
        words = read_words(decode.lexicon, lm=lm, lexicon_file=lexicon_file)
        return LanguageModel(vocabulary, lm=lm, words=words)


def _local(stack: ExitStack, uri: str) -> Path:
    """The local path of a file; a file in a bucket is copied, and the copy deleted when the stack is closed."""
    if not storage.is_remote(uri):
        return Path(uri)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="w2v2-lm-")))
    place = folder / uri.rsplit("/", 1)[-1]
    place.write_bytes(storage.read_bytes(uri))
    return place


def resolved(decode: DecodeConfig) -> DecodeConfig:
    """The settings with absolute places. Raises UserError if the extra `asr` or a file is missing."""
    if decode.kind == "greedy":
        return decode
    check_installed()
    lm = storage.expand(decode.lm)
    lexicon = decode.lexicon if decode.lexicon in ("", LM_WORDS) else storage.expand(decode.lexicon)
    for name, uri in {"decode.lm": lm, "decode.lexicon": lexicon}.items():
        if uri not in ("", LM_WORDS) and not storage.exists(uri):
            raise UserError(f"{name} {uri} does not exist: give a file, local or gs://")
    return replace(decode, lm=lm, lexicon=lexicon)


def of_model(uri: str, info: ModelInfo, decode: DecodeConfig) -> DecodeConfig:
    """The decoding settings of evaluate and predict: the user's language model, or the one in the model folder.

    Raises UserError if the folder has none, and if the user gives a language model without weights.
    """
    if decode.kind == "greedy":
        return decode
    if info.kind != "transcript":
        raise UserError(
            f"decode.* is for models of transcripts, and {uri} is one of {info.kind}: leave it out"
        )
    if decode.lm:
        if decode.is_open:
            raise UserError(
                f"decode.lm needs --decode.lm_weight, and with a lexicon --decode.word_score: {command_of('finetune')} tunes them on val "
                "and keeps them with the model; without --decode.lm the model's own are used"
            )
        return resolved(decode)
    if info.decode is None:
        raise UserError(
            f"decode.kind=beam, but {uri} keeps no language model: give --decode.lm, --decode.lm_weight and with a lexicon "
            "--decode.word_score, or give the same finetune command again with --decode.kind beam --decode.lm"
        )
    if decode.lexicon:
        raise UserError("decode.lexicon is given without decode.lm: the model's own has a lexicon; give both")
    kept = replace(info.decode, **changed(decode))
    folder = storage.expand(uri)
    lexicon = storage.join(folder, kept.lexicon) if kept.lexicon == LEXICON_FILE else kept.lexicon
    return resolved(replace(kept, lm=storage.join(folder, kept.lm), lexicon=lexicon))


def kept_files(decode: DecodeConfig) -> tuple[DecodeConfig, dict[str, bytes]]:
    """The settings in the form that a model folder keeps, and their files by name."""
    files = {LM_FILE: storage.read_bytes(decode.lm)}
    if decode.lexicon in ("", LM_WORDS):
        return replace(decode, lm=LM_FILE), files
    files[LEXICON_FILE] = storage.read_bytes(decode.lexicon)
    return replace(decode, lm=LM_FILE, lexicon=LEXICON_FILE), files


def predictor_name(digest: str, decode: DecodeConfig) -> str:
    """The key of stored predictions: the model's digest and, for a beam search, a digest of its settings and files."""
    if decode.kind == "greedy":
        return digest
    uris = [uri for uri in (decode.lm, decode.lexicon) if uri not in ("", LM_WORDS)]
    files = [hashlib.sha256(storage.read_bytes(uri)).hexdigest() for uri in uris]
    weights = replace(decode, lm="", lexicon=LM_WORDS if decode.lexicon else "")
    return f"{digest}-beam-{settings_digest('decode', decode=weights, files=files)[:8]}"
