"""Every clip gets one split; speakers are never divided; every mistake says what to do."""

import logging

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from w2v2.config.data import FoldsConfig, SplitConfig
from w2v2.data import folds, splits
from w2v2.errors import UserError

FOLDS = FoldsConfig()


def table(rows):
    """Clips of (speaker, split, label)."""
    speakers, split, label = (list(column) for column in zip(*rows, strict=True))
    names = [f"clip-{i:04}" for i in range(len(rows))]
    return pa.table({"clip_id": names, "speaker": speakers, "split": split, "label": label})


def corpus(num_speakers, num_each=3):
    return table([(f"s{i}", "", "xyz"[k % 3]) for i in range(num_speakers) for k in range(num_each)])


def assign(clips, *, need_val=False, folds=FOLDS, **split):
    return splits.assign(clips, SplitConfig(**split), folds, need_val=need_val)


def members(clips):
    """The speakers of each split."""
    result = {"train": set(), "val": set(), "test": set()}
    for speaker, split in zip(clips["speaker"].to_pylist(), clips["split"].to_pylist(), strict=True):
        result[split].add(speaker)
    return result


# column


def test_column_in_many_words():
    words = [
        "train",
        "Training",
        " TRAIN ",
        "val",
        "valid",
        "Validation",
        "DEV",
        "test",
        "Eval",
        "evaluation",
    ]
    clips = table([(f"s{i}", word, "x") for i, word in enumerate(words)])
    for kind in ("column", "auto"):
        assigned = assign(clips, kind=kind)
        assert assigned["split"].to_pylist() == ["train"] * 3 + ["val"] * 4 + ["test"] * 3
        assert assigned.drop_columns("split").equals(clips.drop_columns("split"))
        assert assigned.column_names == clips.column_names


@pytest.mark.parametrize("kind", ["column", "auto"])
def test_column_with_other_words(kind):
    clips = table([("a", "train", "x"), ("b", "", "x"), ("c", "3", "x"), ("d", "", "x"), ("e", "test", "x")])
    wanted = r"data.split_column has '' \(2 clips\), '3' \(1 clip\), wanted train, val or test .*split.kind speakers"
    with pytest.raises(UserError, match=wanted):
        assign(clips, kind=kind)


def test_missing_column():
    with pytest.raises(UserError, match=r"data.split_column has '' \(6 clips\)"):
        assign(corpus(2), kind="column")


@pytest.mark.parametrize(("lacking", "given"), [("train", "test"), ("test", "train")])
def test_column_without_train_or_test(lacking, given):
    clips = table([("a", given, "x"), ("b", given, "x"), ("c", "val", "x")])
    wanted = rf"no clip is in split {lacking} \(found .*2 {given}.*\): .*data.split_column \(clinic: {lacking}.csv\)"
    with pytest.raises(UserError, match=wanted):
        assign(clips)


def test_val_of_the_column_stays_where_none_is_needed():
    clips = table([("a", "train", "x"), ("b", "val", "x"), ("c", "test", "x")])
    assert assign(clips)["split"].to_pylist() == ["train", "val", "test"]
    assert assign(clips, need_val=True)["split"].to_pylist() == ["train", "val", "test"]


def test_val_is_taken_from_the_speakers_of_train():
    rows = [(f"s{i}", "train" if i < 10 else "test", "x") for i in range(15) for _ in range(2)]
    before, after = (
        members(assign(table(rows))),
        members(assign(table(rows), need_val=True, val_fraction=0.2)),
    )
    assert not before["val"] and len(after["val"]) == 2
    assert after["test"] == before["test"] and after["train"] | after["val"] == before["train"]


def test_val_cannot_be_taken_from_one_speaker():
    clips = table([("a", "train", "x"), ("a", "train", "y"), ("b", "test", "x")])
    wanted = r"train has 1 speaker \('?a'?\), of whom split.val_fraction=0.1 takes 1 for val and leaves none"
    with pytest.raises(UserError, match=wanted):
        assign(clips, need_val=True)


# speakers


@settings(max_examples=100, deadline=None)
@given(
    num_speakers=st.integers(3, 40),
    need_val=st.booleans(),
    seed=st.integers(0, 5),
    fractions=st.sampled_from([(0.1, 0.2), (0.0, 0.0), (0.3, 0.3)]),
    random=st.randoms(use_true_random=False),
)
def test_speakers_are_drawn_by_set_and_seed_alone(num_speakers, need_val, seed, fractions, random):
    val_fraction, test_fraction = fractions
    rows = [(f"s{i}", "", "x") for i in range(num_speakers) for _ in range(1 + i % 3)]
    settings_ = {"seed": seed, "val_fraction": val_fraction, "test_fraction": test_fraction}
    drawn = members(assign(table(rows), need_val=need_val, **settings_))
    assert set().union(*drawn.values()) == {f"s{i}" for i in range(num_speakers)}
    assert sum(map(len, drawn.values())) == num_speakers
    assert abs(len(drawn["test"]) - max(1, test_fraction * num_speakers)) <= 0.5
    assert (
        abs(len(drawn["val"]) - max(1, val_fraction * num_speakers)) <= 0.5 if need_val else not drawn["val"]
    )
    assert drawn["train"]
    # Rows more, fewer or in another order are the same speakers; val leaves test as it is.
    shuffled = [*rows, rows[0], rows[-1]]
    random.shuffle(shuffled)
    assert members(assign(table(shuffled), need_val=need_val, **settings_)) == drawn
    assert members(assign(table(rows), need_val=not need_val, **settings_))["test"] == drawn["test"]


def test_seeds_draw_differently():
    drawn = {frozenset(members(assign(corpus(20), seed=seed))["test"]) for seed in range(10)}
    assert len(drawn) == 10


def test_each_speaker_is_drawn_equally_often():
    counts = dict.fromkeys([f"s{i}" for i in range(10)], 0)
    for seed in range(300):
        for speaker in members(assign(corpus(10, 1), seed=seed))["test"]:
            counts[speaker] += 1
    # 2 of 10 in each of 300 draws: 60 with a standard deviation of 6.9.
    assert sum(counts.values()) == 600 and all(30 < n < 90 for n in counts.values())


def test_a_speaker_more_moves_few_others():
    before, after = members(assign(corpus(40))), members(assign(corpus(41)))
    assert len(before["test"] ^ after["test"]) <= 2


def test_the_draw_is_the_same_for_ever():
    # Written down once: a run that is continued by a later version must not score what it has trained on.
    assert members(assign(corpus(8), seed=1, need_val=True)) == {
        "train": {"s1", "s2", "s3", "s4", "s5"},
        "val": {"s7"},
        "test": {"s0", "s6"},
    }


@pytest.mark.parametrize(
    ("num_speakers", "need_val", "fractions", "wanted"),
    [
        (
            1,
            False,
            (0.1, 0.2),
            r"split.test_fraction=0.2 of 1 speaker \(s0\) leave none to train: add speakers",
        ),
        (
            2,
            True,
            (0.1, 0.2),
            r"split.test_fraction=0.2 and split.val_fraction=0.1 of 2 speakers \(s0, s1\) leave",
        ),
        (3, True, (0.45, 0.5), r"split.test_fraction=0.5 and split.val_fraction=0.45 of 3 speakers"),
    ],
)
def test_too_few_speakers(num_speakers, need_val, fractions, wanted):
    with pytest.raises(UserError, match=wanted):
        val_fraction, test_fraction = fractions
        clips = corpus(num_speakers)
        assign(clips, need_val=need_val, val_fraction=val_fraction, test_fraction=test_fraction)


def test_speakers_are_drawn_against_a_column_when_asked():
    clips = table([(f"s{i}", "test", "x") for i in range(10)])
    assert len(members(assign(clips, kind="speakers"))["test"]) == 2


# fold


@pytest.mark.parametrize("fold", range(4))
def test_fold_is_test(fold):
    config = FoldsConfig(kind="grouped", num_folds=4)
    clips = corpus(9, 6)
    in_folds = folds.assign(clips, config)
    assigned = assign(clips, folds=config, kind="fold", fold=fold)
    assert [split == "test" for split in assigned["split"].to_pylist()] == [
        clip_fold == fold for clip_fold in in_folds["fold"].to_pylist()
    ]
    assert (
        set(assigned["split"].to_pylist()) == {"train", "test"}
        and assigned.column_names == clips.column_names
    )
    with_val = members(assign(clips, folds=config, kind="fold", fold=fold, need_val=True))
    assert len(with_val["val"]) == 1 and with_val["test"] == members(assigned)["test"]


def test_missing_fold():
    config = FoldsConfig(kind="grouped", num_folds=4)
    with pytest.raises(UserError, match=r"split.fold must be below folds.num_folds=4 .*, got 4"):
        assign(corpus(9), folds=config, kind="fold", fold=4)


def test_folds_of_several_labels_have_no_classes():
    clips = corpus(6).set_column(3, "label", [[""] * 18]).append_column("target_x", [[0.0, 1.0] * 9])
    for kind in ("grouped", "consecutive"):
        assigned = assign(clips, folds=FoldsConfig(kind=kind, num_folds=3), kind="fold")
        assert len(members(assigned)["test"]) == 2


# What train lacks


def test_classes_that_train_lacks_are_reported(caplog):
    clips = table(
        [("a", "train", "x"), ("a", "train", "y"), ("b", "val", "z"), ("c", "test", "z"), ("c", "test", "x")]
    )
    with caplog.at_level(logging.WARNING, "w2v2"):
        assign(clips)
    assert caplog.messages == ["test has class z, which train lacks, so nothing teaches it"]


def test_labels_that_train_lacks_are_reported(caplog):
    clips = table(
        [("a", "train", ""), ("a", "train", ""), ("b", "val", ""), ("c", "test", ""), ("c", "test", "")]
    )
    for name, values in {
        "known": [0.0, 1.0, None, 1.0, 0.0],
        "never": [0.0, None, 1.0, 1.0, 0.0],
        "always": [1.0, 1.0, 0.0, 0.0, None],
        "pitch": [None, None, 1.5, 1.0, 1.0],
        "energy": [3.0, None, None, 1.0, 0.0],
    }.items():
        clips = clips.append_column(f"target_{name}", pa.array(values, pa.float64()))
    with caplog.at_level(logging.WARNING, "w2v2"):
        assign(clips)
    wanted = "test has always=0, never=1, values of pitch, which train lacks, so nothing teaches it"
    assert caplog.messages == [wanted]


def test_nothing_is_reported_where_train_has_all(caplog):
    with caplog.at_level(logging.WARNING, "w2v2"):
        assign(corpus(9))
    assert not caplog.messages


# audit


def with_digests(rows):
    names = ["clip_id", "speaker", "split", "audio_digest"]
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


FINE = [
    ("f1", "u", "train", "d1"),
    ("f2", "v", "test", None),
    ("f3", "u", "train", None),
    ("f4", "w", "val", "d2"),
]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (
            [("p", "a", "train", "x"), ("q", "a", "test", "y")],
            r"^1 speaker with clips in more than one split: a \(splits test, train\); give every clip of a speaker the",
        ),
        (
            [("p", "a", "train", None), ("q", "a", "val", None)],
            r"^1 speaker with clips in more than one split: a \(splits train, val\)",
        ),
        (
            [("p", "a", "train", "x"), ("q", "b", "test", "x")],
            r"the same audio is in two splits, so what is trained on would be scored: p = q \(split test, train\);",
        ),
    ],
)
def test_audit_names_the_culprits(rows, wanted):
    splits.audit(with_digests(FINE))
    with pytest.raises(UserError, match=wanted) as caught:
        splits.audit(with_digests(FINE + rows))
    assert "f1" not in str(caught.value)


def test_audit_lets_copies_within_a_split_pass():
    splits.audit(with_digests([*FINE, ("p", "a", "train", "x"), ("q", "b", "train", "x")]))
    with pytest.raises(UserError, match="in two splits"):
        splits.audit(with_digests([*FINE, ("p", "a", "train", "x"), ("q", "b", "val", "x")]))


def test_audit_without_digests_still_looks_at_speakers():
    clips = with_digests([("p", "a", "train", "x"), ("q", "b", "test", "x")]).drop_columns("audio_digest")
    splits.audit(clips)
    with pytest.raises(UserError, match="more than one split"):
        splits.audit(clips.set_column(1, "speaker", [["a", "a"]]))


def test_audit_of_what_the_column_says():
    clips = assign(table([("a", "train", "x"), ("b", "train", "x"), ("a", "test", "x")]), kind="column")
    with pytest.raises(UserError, match=r"a \(splits test, train\)"):
        splits.audit(clips)
