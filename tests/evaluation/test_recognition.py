"""Error rates of transcripts, against jiwer and against a plain table of edit distances."""

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v2.evaluation.recognition import NO_SPACES, by_speaker, edits, scores

SENTENCE = st.lists(
    st.sampled_from(["kids", "dogs", "are", "by", "the", "door", "a"]), min_size=1, max_size=7
).map(" ".join)
PAIRS = st.lists(st.tuples(SENTENCE, st.one_of(SENTENCE, st.just(""))), min_size=1, max_size=6)


def distance(reference, hypothesis):
    """The fewest edits, by the recurrence of Wagner and Fischer (1974)."""
    row = list(range(len(hypothesis) + 1))
    for i, target in enumerate(reference, start=1):
        before, row[0] = row[0], i
        for j, written in enumerate(hypothesis, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (target != written))
    return row[-1]


@settings(max_examples=60, deadline=None)
@given(pairs=PAIRS)
def test_rates_are_those_of_jiwer(pairs):
    references, hypotheses = (list(side) for side in zip(*pairs, strict=True))
    rates = scores([str(i) for i in range(len(pairs))], references, hypotheses, ["x"] * len(pairs))
    words = jiwer.process_words(references, hypotheses)
    characters = jiwer.process_characters(references, hypotheses)
    assert rates["wer"] == pytest.approx(words.wer)
    assert rates["cer"] == pytest.approx(characters.cer)
    for name in ("hits", "substitutions", "deletions", "insertions"):
        assert rates["words"][name] == getattr(words, name)
        assert rates["characters"][name] == getattr(characters, name)


@settings(max_examples=100, deadline=None)
@given(reference=st.text("abc", max_size=8), hypothesis=st.text("abcd", max_size=8))
def test_errors_are_the_edit_distance_and_the_counts_add_up(reference, hypothesis):
    counts = edits(reference, hypothesis)
    assert counts.errors == distance(reference, hypothesis)
    assert counts.hits + counts.substitutions + counts.deletions == len(reference)
    assert counts.hits + counts.substitutions + counts.insertions == len(hypothesis)
    assert counts.confused.total() == counts.errors


def test_a_rate_is_of_sums_not_a_mean_of_clips():
    rates = scores(["1", "2"], ["a", "b c d e f g h i j"], ["x", "b c d e f g h i j"], ["s", "t"])
    assert rates["wer"] == pytest.approx(1 / 10)
    assert rates["num_right"] == 1


def test_nothing_written_and_nothing_to_write():
    rates = scores(["1", "2", "3"], ["a b", "", "c"], ["", "x y", "c"], ["s", "s", "t"])
    assert (rates["empty_predictions"], rates["empty_references"]) == (1, 1)
    assert rates["words"] | {} == {
        "reference": 3, "hits": 1, "substitutions": 0, "deletions": 2, "insertions": 2
    }  # fmt: skip
    worst = {row["clip_id"]: row["cer"] for row in rates["worst"]}
    assert worst == {"1": 1.0, "2": None}
    nothing = scores(["1"], [""], ["x"], ["s"])
    assert nothing["wer"] is None and nothing["undefined"]["cer"] == "no reference has text"


def test_a_script_without_spaces_has_no_word_error_rate():
    speakers = list("pqrstu")
    rates = scores(list("123456"), ["ខ្ញុំទៅ", "ក"] * 3, ["ខ្ញុំទៅ", "ខ"] * 3, speakers, spaces=False)
    assert rates["wer"] is None and rates["words"] is None and rates["confused_words"] == []
    assert rates["undefined"] == {"wer": NO_SPACES}
    assert rates["intervals"]["wer"] is None and rates["intervals"]["cer"] is not None
    assert by_speaker(["ក"], ["ខ"], ["t"], spaces=False) == {"t": {"num_clips": 1, "wer": None, "cer": 1.0}}


def test_confusions_and_characters_that_are_never_written():
    rates = scores(["1", "2"], ["the dog", "the dog"], ["the dock", "the dock"], ["s", "t"])
    assert rates["confused_words"] == [{"target": "dog", "predicted": "dock", "count": 2}]
    pairs = {(row["target"], row["predicted"]): row["count"] for row in rates["confused_characters"]}
    assert sum(pairs.values()) == 4 and all(n == 2 for n in pairs.values())
    assert rates["never_written"] == ["g"]


def test_the_interval_resamples_whole_speakers_and_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits, num_corpora = 0, 80
    for seed in range(num_corpora):
        # Speakers differ in how hard they are: clips of one are alike.
        errors = rng.beta(2, 6, 30)
        references, hypotheses, speakers = [], [], []
        for speaker, rate in enumerate(errors):
            for _ in range(4):
                wrong = rng.random(10) < rate
                references.append(" ".join("a" * 10))
                hypotheses.append(" ".join("b" if bad else "a" for bad in wrong))
                speakers.append(f"{speaker:02}")
        ids = [str(i) for i in range(len(references))]
        rates = scores(ids, references, hypotheses, speakers, num_samples=200, seed=seed)
        low, high = rates["intervals"]["wer"]
        assert low <= rates["wer"] <= high
        hits += low <= 2 / 8 <= high
    assert 0.85 <= hits / num_corpora <= 0.99


def test_one_speaker_has_no_interval_and_the_order_of_clips_does_not_matter():
    one = scores(["1", "2"], ["a", "b"], ["a", "c"], ["s", "s"])
    assert one["intervals"] == {
        "wer": None, "cer": None, "undefined": {"wer": "1 speaker", "cer": "1 speaker"}
    }  # fmt: skip
    ids, refs, hyps, who = list("123456"), ["a b", "b", "c d"] * 2, ["a", "c", "c d e"] * 2, list("stuvwx")
    in_order = scores(ids, refs, hyps, who)
    reversed_order = scores(ids[::-1], refs[::-1], hyps[::-1], who[::-1])
    assert in_order["intervals"]["cer"] is not None
    assert in_order == reversed_order
