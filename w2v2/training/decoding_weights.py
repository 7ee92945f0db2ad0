"""Transcripts by a beam search whose weights are chosen on the val split alone."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from w2v2.config.decode import DecodeConfig
from w2v2.data.text import Vocabulary
from w2v2.evaluation.recognition import edits
from w2v2.features.batches import ClipSet
from w2v2.models.beam_search import BeamSearch, LanguageModel
from w2v2.models.ctc import Transcriber
from w2v2.models.decoder import Decoder, open_language_model
from w2v2.models.decoding import Transcript
from w2v2.training.process_group import ProcessGroup
from w2v2.training.transcription import frame_log_probabilities

LM_WEIGHTS = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
WORD_SCORES = (-2.0, -1.0, 0.0, 1.0, 2.0)
MAX_ROUNDS = 3
"""Each searches the word score at the best weight, then the weight at the best word score."""

Frames = Mapping[int, Float[np.ndarray, "frames outputs"]]
"""Log probabilities of the frames of some clips, by row."""


@dataclass(frozen=True, kw_only=True)
class TriedWeights:
    """Weights and their error rate on val."""

    lm_weight: float
    word_score: float
    error_rate: float | None
    """The error rate of words, or of characters where no spaces separate words; None where val has no text."""


@dataclass(frozen=True, kw_only=True)
class BeamDecoding:
    """The tuned settings of a beam search, all weights that were tried, and greedy transcripts of the same clips."""

    decode: DecodeConfig
    """The settings with their weights."""
    tried: list[TriedWeights]
    """Empty where the settings had all weights."""
    greedy: list[Transcript]


def beam_transcripts(
    model: Transcriber,
    clips: ClipSet,
    vocabulary: Vocabulary,
    decode: DecodeConfig,
    *,
    references: Sequence[str],
    tune_on: Collection[int],
    precision: str,
    group: ProcessGroup,
) -> tuple[list[Transcript], BeamDecoding]:
    """The transcript of every clip in order, by a search with the weights that are best on the clips tune_on (rows).

    Several processes compute and search a share each and all return the whole.
    """
    share = group.share(np.arange(len(clips)))
    frames = dict(frame_log_probabilities(model, clips, share, precision=precision))
    lm = open_language_model(decode, vocabulary)
    tried: list[TriedWeights] = []
    if decode.is_open:
        on_val = {row: frames[row] for row in sorted(set(frames) & set(tune_on))}
        decode, tried = tuned(lm, decode, on_val, references, group=group)
    greedy = Decoder(vocabulary=vocabulary)
    beam = Decoder(vocabulary=vocabulary, search=BeamSearch(lm, decode))

    def write(decoder: Decoder) -> list[Transcript]:
        share_by_row = {
            row: decoder.transcript(log_probabilities, frame_s=model.encoder.frame_s)
            for row, log_probabilities in frames.items()
        }
        by_row = {row: transcript for part in group.states(share_by_row) for row, transcript in part.items()}
        return [by_row[row] for row in range(len(clips))]

    return write(beam), BeamDecoding(decode=decode, tried=tried, greedy=write(greedy))


def tuned(
    lm: LanguageModel,
    decode: DecodeConfig,
    frames: Frames,
    references: Sequence[str],
    *,
    group: ProcessGroup,
) -> tuple[DecodeConfig, list[TriedWeights]]:
    """The settings with the weights that have the fewest errors on val, and all that were tried.

    Weights that the settings fix are kept. frames are this process's share of the val clips, references the texts of
    all of them by row; all processes find the same. Among weights with equally few errors the smallest are taken.
    """
    lm_weights = LM_WEIGHTS if decode.lm_weight is None else (decode.lm_weight,)
    fixed = 0.0 if not decode.lexicon else decode.word_score
    word_scores = WORD_SCORES if fixed is None else (fixed,)
    tried: dict[tuple[float, float], TriedWeights] = {}

    def rate(weights: tuple[float, float]) -> tuple[float, float, float]:
        if weights not in tried:
            errors = _error_rate(lm, _weighted(decode, *weights), frames, references, group)
            tried[weights] = TriedWeights(lm_weight=weights[0], word_score=weights[1], error_rate=errors)
        error_rate = tried[weights].error_rate
        return (np.inf if error_rate is None else error_rate, weights[0], abs(weights[1]))

    best = min(((weight, 0.0 if fixed is None else fixed) for weight in lm_weights), key=rate)
    for _ in range(MAX_ROUNDS):
        before = best
        best = min(((best[0], score) for score in word_scores), key=rate)
        best = min(((weight, best[1]) for weight in lm_weights), key=rate)
        if best == before:
            break
    return _weighted(decode, *best), list(tried.values())


def _weighted(decode: DecodeConfig, lm_weight: float, word_score: float) -> DecodeConfig:
    return replace(decode, lm_weight=lm_weight, word_score=word_score if decode.lexicon else None)


def _error_rate(
    lm: LanguageModel,
    decode: DecodeConfig,
    frames: Frames,
    references: Sequence[str],
    group: ProcessGroup,
) -> float | None:
    """Errors over reference units; sums of all processes, divided once."""
    decoder = Decoder(vocabulary=lm.vocabulary, search=BeamSearch(lm, decode))
    errors = units = 0
    for row, log_probabilities in frames.items():
        written = decoder.transcript(log_probabilities, frame_s=1.0).text
        reference = references[row]
        has_words = lm.vocabulary.word_delimiter is not None
        counts = edits(reference.split(), written.split()) if has_words else edits(reference, written)
        errors, units = errors + counts.errors, units + counts.reference
    sums = np.sum(group.states((errors, units)), axis=0)
    return float(sums[0] / sums[1]) if sums[1] else None
