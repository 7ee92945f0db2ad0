"""Scores of transcripts: word and character error rates from summed edit counts, and their intervals by speaker."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from w2v2.data.groups import numbered
from w2v2.evaluation.bootstrap import Scored, fold_of_each, intervals, plain, ratio
from w2v2.json_types import Json

METRICS = ("wer", "cer")
COUNTS = ("reference", "hits", "substitutions", "deletions", "insertions")
NUM_CONFUSIONS = 30
NUM_WORST = 20
NO_SPACES = "text.spaces is false: nothing parts words"


@dataclass(frozen=True, kw_only=True)
class Edits:
    """Counts of substitutions, deletions and insertions in an alignment with the fewest edits (Levenshtein 1966)."""

    reference: int
    """Units (words or characters) of the reference."""
    hits: int
    substitutions: int
    deletions: int
    insertions: int
    confused: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Pairs (reference unit, what was written instead); '' for nothing: a deletion or an insertion."""

    @property
    def errors(self) -> int:
        """The fewest edits that turn the reference into the hypothesis."""
        return self.substitutions + self.deletions + self.insertions


def edits(reference: Sequence[str], hypothesis: Sequence[str]) -> Edits:
    """The edits from a reference to a hypothesis, both sequences of words or of characters.

    >>> edits("the cat sat".split(), "the hat".split()).errors
    2
    """
    from rapidfuzz.distance import Levenshtein

    confused: Counter[tuple[str, str]] = Counter()
    for op in Levenshtein.editops(reference, hypothesis):
        target = "" if op.tag == "insert" else reference[op.src_pos]
        written = "" if op.tag == "delete" else hypothesis[op.dest_pos]
        confused[target, written] += 1
    deletions = sum(n for (_, written), n in confused.items() if not written)
    insertions = sum(n for (target, _), n in confused.items() if not target)
    substitutions = confused.total() - deletions - insertions
    return Edits(
        reference=len(reference),
        hits=len(reference) - substitutions - deletions,
        substitutions=substitutions,
        deletions=deletions,
        insertions=insertions,
        confused=confused,
    )


def scores(
    clip_ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str],
    *,
    spaces: bool = True,
    folds: Sequence[int] | None = None,
    num_samples: int = 1000,
    seed: int = 0,
) -> dict[str, Json]:
    """Error rates of normalised texts with 95 % intervals by speaker, and by fold where there are folds, as plain JSON values.

    `wer` and `cer` are the summed edits of all clips over the summed words and characters of the references:
    a long clip counts for more than a short one, and insertions alone can raise a rate above 1. The spaces
    between words are characters. `words` and `characters` have the counts, `confused_words` and
    `confused_characters` the commonest pairs ('' is nothing), `worst` the clips with most character errors,
    `empty_predictions` the clips with a reference for which nothing was written, and `never_written` the
    characters of the references that no hypothesis has. `undefined`, also of the intervals, says why a rate is None: a script without
    spaces has no words, and a rate without a reference has no denominator.
    """
    words = [edits(r.split(), h.split()) for r, h in zip(references, hypotheses, strict=True)]
    characters = [edits(r, h) for r, h in zip(references, hypotheses, strict=True)]
    units = {"wer": words if spaces else [], "cer": characters}
    rates = _totals_rates(units)
    undefined = {name: "no reference has text" for name, rate in rates.items() if rate is None}
    undefined |= {} if spaces else {"wer": NO_SPACES}
    within = intervals(_scored(units, speakers, folds), seed=seed, num_samples=num_samples)
    return {
        "num_clips": len(clip_ids),
        **rates,
        "undefined": undefined,
        "intervals": {
            **{name: interval.between for name, interval in within.items()},
            "undefined": {
                name: interval.undefined for name, interval in within.items() if interval.undefined
            },
        },
        "words": _totals(words) if spaces else None,
        "characters": _totals(characters),
        "num_right": sum(not clip_edits.errors for clip_edits in characters),
        "empty_references": sum(not text for text in references),
        "empty_predictions": sum(bool(r) and not h for r, h in zip(references, hypotheses, strict=True)),
        "confused_words": _commonest(words) if spaces else [],
        "confused_characters": _commonest(characters),
        "never_written": sorted(set("".join(references)) - set("".join(hypotheses))),
        "worst": _worst(clip_ids, references, hypotheses, characters),
    }


def by_speaker(
    references: Sequence[str], hypotheses: Sequence[str], speakers: Sequence[str], *, spaces: bool = True
) -> dict[str, dict[str, Json]]:
    """The error rates of each speaker's clips; None where undefined."""
    by_name: dict[str, dict[str, Any]] = {}
    for name in sorted(set(speakers)):
        pairs = [(r, h) for r, h, s in zip(references, hypotheses, speakers, strict=True) if s == name]
        units = {
            "wer": [edits(r.split(), h.split()) for r, h in pairs if spaces],
            "cer": [edits(*pair) for pair in pairs],
        }
        rates = {metric: plain(_rates(_counts(values).sum(0)[None])[0]) for metric, values in units.items()}
        by_name[name] = {"num_clips": len(pairs)} | rates
    return by_name


def rates(
    references: Sequence[str], hypotheses: Sequence[str], *, spaces: bool = True
) -> dict[str, float | None]:
    """`wer` and `cer` of some clips: summed edits over summed reference units; None where undefined."""
    return _totals_rates(_units(references, hypotheses, spaces=spaces))


def scored(
    references: Sequence[str],
    hypotheses: Sequence[str],
    speakers: Sequence[str],
    *,
    spaces: bool = True,
    folds: Sequence[int] | None = None,
) -> Scored:
    """The error rates, ready to be resampled by speaker, and by fold where each fold has a separate model."""
    units = _units(references, hypotheses, spaces=spaces)
    return _scored({name: clips for name, clips in units.items() if name == "cer" or spaces}, speakers, folds)


def edit_counts(
    references: Sequence[str], hypotheses: Sequence[str], *, spaces: bool
) -> dict[str, Shaped[np.ndarray, "clips 2"]]:
    """Errors and reference units of each clip, by rate (wer, cer); without spaces there is no wer."""
    units = _units(references, hypotheses, spaces=spaces)
    return {name: _counts(clips) for name, clips in units.items() if name == "cer" or spaces}


def scored_counts(
    sums: Mapping[str, Shaped[np.ndarray, "speakers 2"]],
    speakers: Shaped[np.ndarray, " speakers"],
    *,
    folds: Sequence[Int[np.ndarray, " speakers"]] = (),
) -> Scored:
    """The rates of any sample of the speakers, from each speaker's summed edits and reference units."""
    return Scored(
        speakers=speakers,
        values=lambda counts: {name: _rates(counts @ part) for name, part in sums.items()},
        folds=folds,
        bounds=dict.fromkeys(sums, (0.0, np.inf)),
    )


def _units(references: Sequence[str], hypotheses: Sequence[str], *, spaces: bool) -> dict[str, list[Edits]]:
    """The edits of each clip in words, none without spaces, and in characters."""
    pairs = list(zip(references, hypotheses, strict=True))
    return {
        "wer": [edits(r.split(), h.split()) for r, h in pairs] if spaces else [],
        "cer": [edits(r, h) for r, h in pairs],
    }


def _totals_rates(units: Mapping[str, Sequence[Edits]]) -> dict[str, float | None]:
    return {name: plain(_rates(_counts(clips).sum(0)[None])[0]) for name, clips in units.items()}


def _counts(clips: Sequence[Edits]) -> Shaped[np.ndarray, "clips 2"]:
    """Errors and reference units of each clip."""
    return np.array([(clip_edits.errors, clip_edits.reference) for clip_edits in clips], np.int64).reshape(
        -1, 2
    )


def _rates(counts: Shaped[np.ndarray, "samples 2"]) -> Shaped[np.ndarray, " samples"]:
    return ratio(counts[:, 0], counts[:, 1])


def _scored(
    units: Mapping[str, Sequence[Edits]], speakers: Sequence[str], folds: Sequence[int] | None
) -> Scored:
    """The rates of any sample of the speakers; edits and reference units are drawn together."""
    names, group = numbered(speakers)
    sums = {name: np.zeros((len(names), 2), np.int64) for name in units}
    for name, clips in units.items():
        if clips:
            np.add.at(sums[name], group, _counts(clips))
    in_folds = () if folds is None else (fold_of_each(group, np.asarray(folds), len(names)),)
    return scored_counts(sums, names, folds=in_folds)


def _totals(clips: Sequence[Edits]) -> dict[str, int]:
    return {name: sum(getattr(clip_edits, name) for clip_edits in clips) for name in COUNTS}


def _commonest(clips: Sequence[Edits]) -> list[dict[str, Json]]:
    total: Counter[tuple[str, str]] = Counter()
    for clip in clips:
        total += clip.confused
    ordered = sorted(total.items(), key=lambda item: (-item[1], item[0]))
    return [
        {"target": target, "predicted": written, "count": n}
        for (target, written), n in ordered[:NUM_CONFUSIONS]
    ]


def _worst(
    clip_ids: Sequence[str],
    references: Sequence[str],
    hypotheses: Sequence[str],
    characters: Sequence[Edits],
) -> list[dict[str, Json]]:
    """The clips with most character errors, the shorter reference first among equals."""
    wrong = [row for row, edits_of_clip in enumerate(characters) if edits_of_clip.errors]
    wrong.sort(key=lambda row: (-characters[row].errors, len(references[row]), clip_ids[row]))
    return [
        {
            "clip_id": clip_ids[row],
            "target": references[row],
            "predicted": hypotheses[row],
            "errors": characters[row].errors,
            # Without a reference a rate is undefined; the insertions count all the same.
            "cer": characters[row].errors / len(references[row]) if references[row] else None,
        }
        for row in wrong[:NUM_WORST]
    ]
