"""Train, val and test splits with no speaker in two of them."""

import hashlib
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.config.data import SPLITS, FoldsConfig, SplitConfig
from w2v2.data import folds as speaker_folds
from w2v2.data import leaks
from w2v2.data.groups import looked_up
from w2v2.errors import UserError
from w2v2.wording import counted, listed

logger = logging.getLogger(__name__)

# What a column may call each split, in upper or lower case.
WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev", "development"),
    "test": ("test", "testing", "eval", "evaluation"),
}


def assign(clips: pa.Table, split: SplitConfig, folds: FoldsConfig, *, need_val: bool) -> pa.Table:
    """The clips in their order, with column split set to train, val or test.

    The splits depend only on the set of clips and the settings; 'speakers' draws by the set of speakers and split.seed
    only, and test is the same with and without val. If val is needed and the data has none, it is
    drawn from the speakers of train; if it is not needed, none is drawn, but a val of the data stays. A class or
    label that test has and train lacks is logged as a warning.

    Raises UserError for too few speakers, a fold that does not exist, a word in the column that names no split,
    and where train or test would be empty.
    """
    match split.kind, any(clips["split"].unique().to_pylist()):
        case ("column", _) | ("auto", True):
            clips = _with_split(clips, _of_column(clips))
        case "fold", _:
            clips = _with_split(clips, _of_fold(clips, split, folds))
        case _:
            clips = _with_split(clips, _drawn(clips, split, need_val=need_val))
    if need_val and "val" not in num_clips(clips):
        clips = _val_from_train(clips, split)
    _check_filled(clips)
    _warn_untaught(clips)
    return clips


def hold_back(clips: pa.Table, *, fraction: float, seed: int) -> pa.Table:
    """The clips (speaker, uri, audio_digest) with split val for a fraction of the speakers, drawn by seed, and train for the rest.

    With fewer than two named speakers, recordings (uri) are drawn instead. Clips with the same audio as a val clip are
    val, too. Raises UserError where no clip would be left to train on.
    """
    chosen = held_back(clips, fraction=fraction, seed=seed)
    digests = clips["audio_digest"].to_pylist()
    held = {digest for digest, is_chosen in zip(digests, chosen, strict=True) if is_chosen}
    split = ["val" if digest in held else "train" for digest in digests]
    if "train" not in split:
        raise _nothing_to_train_on(fraction, "audio")
    return _with_split(clips, split)


def held_back(clips: pa.Table, *, fraction: float, seed: int) -> list[bool]:
    """For each clip (speaker, uri), whether hold_back draws its speaker, or else its recording.

    Raises UserError where no clip would be left to train on.
    """
    rows = clips.select(["speaker", "uri"]).to_pylist()
    by_speaker = len({row["speaker"] for row in rows} - {""}) > 1
    keys = [(row["speaker"] if by_speaker else "") or row["uri"] for row in rows]
    shuffled = _shuffled(keys, seed)
    chosen = set(shuffled[: _share(shuffled, fraction)]) if fraction else set()
    if len(chosen) == len(shuffled):
        raise _nothing_to_train_on(fraction, f"{len(shuffled)} {'speakers' if by_speaker else 'recordings'}")
    return [key in chosen for key in keys]


def _nothing_to_train_on(fraction: float, whole: str) -> UserError:
    return UserError(
        f"training.val_fraction={fraction:g} of {whole} leaves no clip to train on: add audio, or set "
        "--training.val_fraction 0"
    )


def audit(clips: pa.Table) -> None:
    """Raises UserError naming the culprits when a speaker, or the same audio, is in two splits.

    Audio is compared by a column audio_digest (of the clip's own samples) where there is one; nulls are
    passed over.
    """
    leaks.refuse_divided_speakers(clips, part="split")
    consequence = "in two splits, so what is trained on would be scored"
    leaks.refuse_same_audio(leaks.with_shared_audio(clips), "split", consequence)


def _with_split(clips: pa.Table, split: list[str] | pa.ChunkedArray) -> pa.Table:
    values = split if isinstance(split, pa.ChunkedArray) else pa.array(split, pa.string())
    return clips.set_column(clips.column_names.index("split"), pa.field("split", pa.string()), values)


def num_clips(clips: pa.Table) -> Counter[str]:
    """The number of clips in each split."""
    counts = clips["split"].value_counts()
    return Counter(
        dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True))
    )


def _of_column(clips: pa.Table) -> list[str]:
    meant = {word: split for split, words in WORDS.items() for word in words}
    written = num_clips(clips)
    unknown = {word: num for word, num in written.items() if word.strip().lower() not in meant}
    if unknown:
        shown = [f"{word!r} ({counted(n, 'clips')})" for word, n in sorted(unknown.items())]
        raise UserError(
            f"the column data.split_column has {listed(shown)}, wanted train, val or test for every clip: fix "
            "these cells, or draw the splits with --split.kind speakers"
        )
    return looked_up(clips["split"], {word: meant[word.strip().lower()] for word in written})


def _of_fold(clips: pa.Table, split: SplitConfig, folds: FoldsConfig) -> list[str]:
    if split.fold >= folds.num_folds:
        raise UserError(
            f"split.fold must be below folds.num_folds={folds.num_folds} (the first fold is 0), got {split.fold}"
        )
    assigned = speaker_folds.assign(clips, folds)["fold"].to_pylist()
    return ["test" if fold == split.fold else "train" for fold in assigned]


def _drawn(clips: pa.Table, split: SplitConfig, *, need_val: bool) -> list[str]:
    speakers = _shuffled(clips["speaker"].unique().to_pylist(), split.seed)
    num_test = _share(speakers, split.test_fraction)
    num_val = _share(speakers, split.val_fraction) if need_val else 0
    if num_test + num_val >= len(speakers):
        val = f" and split.val_fraction={split.val_fraction:g}" if need_val else ""
        raise UserError(
            f"split.test_fraction={split.test_fraction:g}{val} of "
            f"{counted(len(speakers), 'speakers')} ({listed(sorted(speakers))}) leave none to train: add speakers or lower "
            f"{'these fractions' if need_val else 'the fraction'}"
        )
    split_of = dict.fromkeys(speakers, "train")
    split_of |= dict.fromkeys(speakers[:num_test], "test")
    split_of |= dict.fromkeys(speakers[num_test : num_test + num_val], "val")
    return looked_up(clips["speaker"], split_of)


def _val_from_train(clips: pa.Table, split: SplitConfig) -> pa.Table:
    in_train = pc.equal(clips["split"], "train")
    speakers = _shuffled(clips["speaker"].filter(in_train).unique().to_pylist(), split.seed)
    num_val = _share(speakers, split.val_fraction)
    if num_val >= len(speakers):
        raise UserError(
            f"train has {counted(len(speakers), 'speakers')} ({listed(sorted(speakers))}), of whom split.val_fraction="
            f"{split.val_fraction:g} takes {num_val} for val and leaves none: add speakers, or give a val split"
        )
    is_chosen = pc.is_in(clips["speaker"], value_set=pa.array(speakers[:num_val], pa.string()))
    return _with_split(clips, pc.if_else(pc.and_(in_train, is_chosen), "val", clips["split"]))


def _shuffled(speakers: Iterable[str], seed: int) -> list[str]:
    """The speakers, each once, in an order drawn by the seed.

    They are ordered by hashes and not by a random generator: so other machines and versions get the same order, and
    another speaker added or removed does not move the others.
    """
    return sorted(set(speakers), key=lambda speaker: hashlib.sha256(f"{seed}:{speaker}".encode()).digest())


def _share(speakers: Sequence[str], fraction: float) -> int:
    """The number of speakers in a fraction of them, rounded, at least one."""
    return max(1, math.floor(fraction * len(speakers) + 0.5))


def _check_filled(clips: pa.Table) -> None:
    counts = num_clips(clips)
    shown = ", ".join(f"{counts[name]} {name}" for name in SPLITS if name in counts) or "no clip at all"
    for name in ("train", "test"):
        if not counts[name]:
            raise UserError(
                f"no clip is in split {name} (found {shown}): mark some with it in data.split_column (clinic: "
                f"{name}.csv), or draw the splits with --split.kind speakers"
            )


def _warn_untaught(clips: pa.Table) -> None:
    """Warns of classes and labels that test has and train lacks."""
    lacking = sorted(_contents(clips, "test") - _contents(clips, "train"))
    if lacking:
        logger.warning("test has %s, which train lacks, so nothing teaches it", listed(lacking))


def _contents(clips: pa.Table, split: str) -> set[str]:
    """The names that training on a split can learn: its classes, its labels with a 0 and with a 1, its targets with values."""
    in_part = pc.equal(clips["split"], split)
    contents = {f"class {label}" for label in clips["label"].filter(in_part).unique().to_pylist() if label}
    for name in clips.column_names:
        if name.startswith("target_"):
            is_label = set(clips[name].unique().to_pylist()) <= {0.0, 1.0, None}
            target = name.removeprefix("target_")
            values = clips[name].filter(in_part).drop_null().unique().to_pylist()
            contents |= {f"{target}={value:g}" if is_label else f"values of {target}" for value in values}
    return contents
