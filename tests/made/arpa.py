"""Small n-gram models as ARPA files, and what they say, by a parser of the tests' own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

Ngrams = Mapping[tuple[str, ...], tuple[float, float]]
"""Log10 probability and back-off weight of each n-gram."""


def write_arpa(place: Path, ngrams: Ngrams) -> Path:
    """An ARPA file of these n-grams."""
    orders = sorted({len(ngram) for ngram in ngrams})
    lines = ["\\data\\", *(f"ngram {n}={sum(len(g) == n for g in ngrams)}" for n in orders)]
    for n in orders:
        lines += ["", f"\\{n}-grams:"]
        for ngram, (probability, backoff) in ngrams.items():
            if len(ngram) == n:
                end = [f"{backoff:.6f}"] if n < orders[-1] else []
                lines.append("\t".join([f"{probability:.6f}", " ".join(ngram), *end]))
    place.write_text("\n".join([*lines, "", "\\end\\", ""]), encoding="utf-8")
    return place


def log10_probability(ngrams: Ngrams, words: Sequence[str]) -> float:
    """Of a sentence with its end, by Katz's back-off as the ARPA format defines it."""
    total, history = 0.0, ("<s>",)
    longest = max(map(len, ngrams))
    unigrams = {ngram[0] for ngram in ngrams if len(ngram) == 1}
    for word in [*(w if w in unigrams else "<unk>" for w in words), "</s>"]:
        total += _next(ngrams, history[-(longest - 1) :] if longest > 1 else (), word)
        history = (*history, word)
    return total


def _next(ngrams: Ngrams, history: tuple[str, ...], word: str) -> float:
    if (*history, word) in ngrams:
        return ngrams[(*history, word)][0]
    return (ngrams[history][1] if history in ngrams else 0.0) + _next(ngrams, history[1:], word)
