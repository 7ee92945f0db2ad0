"""Folds are disjoint, covering and a function of the set of clips; the audit refuses leaks."""

import logging

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from w2v2.config.data import FoldsConfig
from w2v2.data import folds
from w2v2.errors import UserError

RAVDESS = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]


def table(rows):
    """Clips of (speaker, label), named by their place."""
    speakers, labels = zip(*rows, strict=True)
    names = [f"clip-{i:04}" for i in range(len(rows))]
    return pa.table({"clip_id": names, "speaker": list(speakers), "label": list(labels)})


def corpus(speakers, classes=("happy", "sad"), num_each=3):
    return table([(speaker, label) for speaker in speakers for label in classes for _ in range(num_each)])


def ravdess():
    # Each actor: 4 neutral clips and 8 of each other emotion, 60 in all.
    counts = [4] + [8] * 7
    return table(
        [
            (f"{a:02}", label)
            for a in range(1, 25)
            for label, n in zip(RAVDESS, counts, strict=True)
            for _ in range(n)
        ]
    )


def members(clips):
    """Speakers of each fold."""
    result = {}
    for speaker, fold in zip(clips["speaker"].to_pylist(), clips["fold"].to_pylist(), strict=True):
        result.setdefault(fold, set()).add(speaker)
    return [result[fold] for fold in sorted(result)]


def test_published_folds_deal_24_actors_into_six_fours():
    actors = [actor for fold in folds.EMOBOX_ACTORS for actor in fold]
    assert sorted(actors) == [f"{a:02}" for a in range(1, 25)]
    assert [len(fold) for fold in folds.EMOBOX_ACTORS] == [4] * 6


def test_published_folds_of_ravdess_hold_out_240_of_1440_clips():
    clips = folds.assign(ravdess(), FoldsConfig())
    assert members(clips)[0] == {"01", "11", "20", "21"}
    assert members(clips)[5] == {"06", "13", "17", "22"}
    assert np.bincount(clips["fold"].to_numpy()).tolist() == [240] * 6
    assert clips.schema.field("fold").type == pa.int64()
    folds.audit(clips)


def test_published_folds_do_not_take_more_than_the_published_speakers():
    with pytest.raises(UserError, match=r"actors '01' to '24', got speaker 7, anna: .*--folds.kind grouped"):
        folds.assign(corpus(["01", "7", "anna"]), FoldsConfig())


def test_published_folds_name_the_actors_of_an_empty_fold():
    speakers = [f"{a:02}" for a in range(1, 25) if a not in (8, 9, 19, 23)]
    wanted = "fold 2 of folds.kind=published is empty, .*no clip of the actors 08, 09, 19, 23"
    with pytest.raises(UserError, match=wanted):
        folds.assign(corpus(speakers), FoldsConfig())


def test_consecutive_folds_sort_numbers_by_value():
    speakers = ["10", "2", "1", "11", "9", "3", "20"]
    clips = folds.assign(corpus(speakers), FoldsConfig(kind="consecutive", num_folds=3))
    assert members(clips) == [{"1", "2", "3"}, {"9", "10"}, {"11", "20"}]


def test_consecutive_folds_sort_numbers_within_names():
    speakers = ["spk10", "spk9", "anna", "spk²"]
    clips = folds.assign(corpus(speakers), FoldsConfig(kind="consecutive", num_folds=4))
    assert members(clips) == [{"anna"}, {"spk9"}, {"spk10"}, {"spk²"}]


def test_consecutive_folds_of_ravdess_are_six_runs_of_four():
    clips = folds.assign(ravdess(), FoldsConfig(kind="consecutive"))
    assert members(clips)[1] == {"05", "06", "07", "08"}
    assert [len(m) for m in members(clips)] == [4] * 6


def test_grouped_folds_balance_clips_and_classes():
    clips = folds.assign(ravdess(), FoldsConfig(kind="grouped", num_folds=8))
    assert np.bincount(clips["fold"].to_numpy()).tolist() == [180] * 8


def test_grouped_folds_balance_unequal_speakers_better_than_runs():
    rng = np.random.default_rng(0)
    rows = []
    for speaker in range(29):
        labels = rng.choice(["a", "b", "c"], rng.integers(5, 80), p=rng.dirichlet([1, 1, 1]))
        rows += [(f"s{speaker}", str(label)) for label in labels]
    clips = table(rows)

    def unevenness(kind):
        assigned = folds.assign(clips, FoldsConfig(kind=kind, num_folds=5)).to_pandas()
        counts = assigned.groupby(["label", "fold"]).size().unstack(fill_value=0)
        return float((counts.std(axis=1) / counts.mean(axis=1)).mean())

    assert unevenness("grouped") < 0.3 * unevenness("consecutive")


@st.composite
def corpora(draw):
    num_speakers = draw(st.integers(4, 11))
    speakers = st.sampled_from([str(i) for i in range(num_speakers)])
    rows = draw(st.lists(st.tuples(speakers, st.sampled_from(["a", "b", "c"])), min_size=12, max_size=60))
    return table(rows)


@settings(max_examples=150, deadline=None)
@given(corpora(), st.sampled_from(["consecutive", "grouped"]), st.integers(2, 4), st.randoms())
def test_folds_are_disjoint_covering_and_independent_of_row_order(clips, kind, num_folds, random):
    config = FoldsConfig(kind=kind, num_folds=num_folds)
    try:
        assigned = folds.assign(clips, config)
    except UserError:
        assume(False)
    assert set(assigned["fold"].to_pylist()) == set(range(num_folds))
    assert assigned.drop_columns("fold").equals(clips)
    parts = members(assigned)
    assert sum(len(part) for part in parts) == len(set().union(*parts))
    folds.audit(assigned)

    order = list(range(len(clips)))
    random.shuffle(order)
    assert folds.assign(clips.take(order), config).equals(assigned.take(order))

    for fold in range(num_folds):
        rest = [
            label
            for label, other in zip(assigned["label"].to_pylist(), assigned["fold"].to_pylist(), strict=True)
            if other != fold
        ]
        assert set(rest) == set(clips["label"].to_pylist())


@pytest.mark.parametrize("kind", ["consecutive", "grouped"])
def test_fewer_speakers_than_folds(kind):
    wanted = r"folds.num_folds is 5 but there are only 3 speakers \(a, b, c\): lower --folds.num_folds"
    with pytest.raises(UserError, match=wanted):
        folds.assign(corpus("abc"), FoldsConfig(kind=kind, num_folds=5))


@pytest.mark.parametrize("kind", ["consecutive", "grouped"])
def test_one_speaker(kind):
    wanted = r"all 8 clips are of one speaker \(a\), wanted two or more: .*look at data.speaker_column"
    with pytest.raises(UserError, match=wanted):
        folds.assign(table([("a", "x"), ("a", "y")] * 4), FoldsConfig(kind=kind, num_folds=2))


@pytest.mark.parametrize("kind", ["consecutive", "grouped"])
def test_a_class_of_one_fold(kind):
    clips = table([("a", "x"), ("a", "y"), ("b", "x"), ("b", "x"), ("c", "x"), ("c", "x")] * 3)
    with pytest.raises(
        UserError, match=r"all 3 clips of class y are in fold \d, .*merge or drop it with --data.classes"
    ):
        folds.assign(clips, FoldsConfig(kind=kind, num_folds=3))


def test_fewer_clips_of_every_class_than_folds():
    clips = table([("a", "x"), ("b", "x"), ("c", "y"), ("d", "y"), ("e", "z")])
    with pytest.raises(UserError, match=r"folds.num_folds is 4 but no class has more than 2 clips"):
        folds.assign(clips, FoldsConfig(kind="grouped", num_folds=4))


def test_a_fold_that_holds_out_no_clip_of_a_class_is_reported(caplog):
    clips = table([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("c", "x"), ("c", "x")] * 2)
    with caplog.at_level(logging.WARNING, "w2v2.data.folds"):
        folds.assign(clips, FoldsConfig(kind="consecutive", num_folds=3))
    assert caplog.messages == ["fold 2 holds out no clip of class y: its UAR is over the others"]


def with_digests(rows):
    names = ["clip_id", "speaker", "label", "fold", "audio_digest"]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def test_audit_passes_different_audio_and_nulls(caplog):
    rows = [
        ("p", "a", "x", 0, "d1"),
        ("q", "b", "x", 1, "d2"),
        ("r", "b", "y", 1, None),
        ("s", "a", "x", 0, None),
    ]
    with caplog.at_level(logging.WARNING, "w2v2.data.folds"):
        folds.audit(with_digests(rows))
    assert not caplog.messages  # nulls are no copies of each other either
    # The same rows are refused as soon as the unknown audio turns out to be what another fold has.
    with pytest.raises(UserError, match=r"in two folds, .*: p = r \(fold 0, 1\)"):
        folds.audit(with_digests([*rows[:2], ("r", "b", "y", 1, "d1"), rows[3]]))


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (
            [("p", "a", "x", 0, "d1"), ("q", "a", "x", 1, "d2")],
            r"1 speaker with clips in more than one fold: a \(folds 0, 1\)",
        ),
        (
            [("p", "a", "x", 0, "d"), ("q", "b", "x", 1, "d")],
            r"the same audio is in two folds, .*: p = q \(fold 0, 1\)",
        ),
        (
            [("p", "a", "x", 0, "d"), ("q", "b", "x", 0, "d")],
            r"under two speakers, .*: p = q \(speaker a, b\)",
        ),
        ([("p", "a", "y", 0, "d"), ("q", "a", "x", 0, "d")], r"with two labels, .*: p = q \(label x, y\)"),
    ],
)
def test_audit_names_the_culprits(rows, wanted):
    fine = [("fine1", "u", "x", 2, "f1"), ("fine2", "v", "y", 3, "f2")]
    with pytest.raises(UserError, match=wanted) as caught:
        folds.audit(with_digests(fine + rows))
    assert "fine" not in str(caught.value)


def test_audit_names_at_most_ten():
    rows = [(f"{c}{i:02}", c, "x", fold, f"d{i}") for fold, c in enumerate("ab") for i in range(14)]
    with pytest.raises(UserError, match=r"a00 = b00 .*a09 = b09 \(fold 0, 1\); and 4 more"):
        folds.audit(with_digests(rows))


def test_audit_without_digests_still_looks_at_speakers():
    clips = with_digests([("p", "a", "x", 0, "d"), ("q", "b", "x", 1, "d")]).drop_columns("audio_digest")
    folds.audit(clips)
    with pytest.raises(UserError, match="more than one fold"):
        folds.audit(clips.set_column(1, "speaker", [["a", "a"]]))


def test_audit_warns_of_harmless_copies(caplog):
    with caplog.at_level(logging.WARNING, "w2v2.data.folds"):
        folds.audit(with_digests([("p", "a", "x", 0, "d"), ("q", "a", "x", 0, "d"), ("r", "b", "x", 1, "e")]))
    assert caplog.messages == ["the audio of 1 clip is that of another clip of the same speaker and label"]
