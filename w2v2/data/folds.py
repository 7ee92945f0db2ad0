"""Speaker-disjoint folds, published and computed, and the audit that refuses leaks."""

import logging
import re
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from w2v2.config.data import FoldsConfig
from w2v2.data import leaks
from w2v2.data.groups import looked_up, numbered
from w2v2.errors import UserError
from w2v2.wording import counted, listed

logger = logging.getLogger(__name__)

# The test actors of data/ravdess/fold_1 to fold_6 of EmoBox (Ma et al. 2024, arXiv 2406.07162).
EMOBOX_ACTORS: tuple[tuple[str, ...], ...] = (
    ("01", "11", "20", "21"),
    ("04", "10", "12", "14"),
    ("08", "09", "19", "23"),
    ("03", "05", "07", "24"),
    ("02", "15", "16", "18"),
    ("06", "13", "17", "22"),
)


def assign(clips: pa.Table, folds: FoldsConfig) -> pa.Table:
    """The clips in their order with a column fold (int64, from 0); all clips of a speaker share one.

    Folds depend only on the set of clips (speaker, label): not on the order of the rows, the machine or the run.
    'published' puts EMOBOX_ACTORS[k] into fold k; 'consecutive' takes the speakers in order ('2' before '10') in runs
    whose sizes differ by at most one; 'grouped' balances the clips of each class over the folds; 'column' takes those
    of the column split.

    Raises UserError for fewer speakers than folds, a speaker that is not in the published list, a fold
    without clips, and a class that has no clip outside some fold.
    """
    match folds.kind:
        case "published":
            fold_of = _published(clips)
        case "consecutive":
            fold_of = _consecutive(clips, num_folds=folds.num_folds)
        case "grouped":
            fold_of = _grouped(clips, num_folds=folds.num_folds)
        case "column":
            fold_of = _of_column(clips, num_folds=folds.num_folds)
    fold = np.array(looked_up(clips["speaker"], fold_of), np.int64)
    _check_filled(fold, folds)
    _check_classes(clips, fold, num_folds=folds.num_folds)
    return clips.append_column("fold", pa.array(fold, pa.int64()))


def divide(clips: pa.Table, *, num_folds: int, by_class: bool) -> dict[str, int]:
    """The fold of each speaker, from 0: balanced by the label of the clips, or speakers in order in runs of equal size.

    Raises UserError for fewer speakers than folds.
    """
    return _grouped(clips, num_folds=num_folds) if by_class else _consecutive(clips, num_folds=num_folds)


def audit(clips: pa.Table) -> None:
    """Raises UserError, with the names, when a held-out clip's speaker or audio is also in training.

    That is a speaker in two folds or, with a column audio_digest (of the clip's samples; nulls are skipped), the
    same audio in two folds, under two speakers or with two labels. The same audio twice for one speaker and label
    is logged as a warning: it counts double, but leaks nothing.
    """
    leaks.refuse_divided_speakers(clips, part="fold")
    shared = leaks.with_shared_audio(clips)
    leaks.refuse_same_audio(shared, "fold", "in two folds, so a held-out clip would be trained on")
    leaks.refuse_same_audio(shared, "speaker", "under two speakers, so one of the two names is wrong")
    leaks.refuse_same_audio(shared, "label", "with two labels, so one of the two is wrong")
    num_copies = len(shared) - pc.count_distinct(shared["audio_digest"]).as_py()
    if num_copies:
        logger.warning(
            "the audio of %s is that of another clip of the same speaker and label",
            counted(num_copies, "clips"),
        )


def _published(clips: pa.Table) -> dict[str, int]:
    fold_of = {actor: fold for fold, actors in enumerate(EMOBOX_ACTORS) for actor in actors}
    unknown = [speaker for speaker in _speakers(clips) if speaker not in fold_of]
    if unknown:
        raise UserError(
            f"folds.kind=published knows the RAVDESS actors '01' to '24', got speaker {listed(unknown)}: "
            "name the speakers so, or use --folds.kind grouped"
        )
    return fold_of


def _of_column(clips: pa.Table, *, num_folds: int) -> dict[str, int]:
    """The folds in the column split, numbered in the order of their names."""
    names = _in_order(clips["split"].unique().to_pylist())
    if names == [""]:
        raise UserError(
            "folds.kind=column wants the fold of each clip in the column data.split_column, which the data does not "
            "have: set --data.split_column, or use --folds.kind grouped"
        )
    if "" in names:
        raise UserError(
            "folds.kind=column: some clips have an empty data.split_column: fill it for every clip"
        )
    if len(names) != num_folds:
        raise UserError(
            f"folds.num_folds is {num_folds}, but data.split_column has {len(names)} different values "
            f"({listed(names)}): set --folds.num_folds {len(names)}"
        )
    leaks.refuse_divided_speakers(clips, part="split")
    pairs = clips.group_by("speaker").aggregate([("split", "min")])  # of which each speaker has one
    return {
        speaker: names.index(name)
        for speaker, name in zip(pairs["speaker"].to_pylist(), pairs["split_min"].to_pylist(), strict=True)
    }


def _consecutive(clips: pa.Table, *, num_folds: int) -> dict[str, int]:
    speakers = _enough_speakers(clips, num_folds=num_folds)
    runs = np.array_split(np.array(speakers, object), num_folds)
    return {speaker: fold for fold, run in enumerate(runs) for speaker in run}


def _grouped(clips: pa.Table, *, num_folds: int) -> dict[str, int]:
    _enough_speakers(clips, num_folds=num_folds)
    names, number = numbered(clips["speaker"])
    _, number_of_label = numbered(clips["label"])
    in_order = np.lexsort((number_of_label, number))
    speaker, label = number[in_order], number_of_label[in_order]
    most = int(np.bincount(label).max())
    if most < num_folds:
        raise UserError(
            f"folds.num_folds is {num_folds} but no class has more than {counted(most, 'clips')}: "
            "add clips or lower --folds.num_folds"
        )
    from sklearn.model_selection import StratifiedGroupKFold  # takes seconds to import

    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=0)
    with warnings.catch_warnings():
        # scikit-learn's warning about classes rarer than folds; _check_classes has a plainer one.
        warnings.filterwarnings("ignore", message="The least populated class")
        parts = [held_out for _, held_out in splitter.split(label, label, speaker)]
    return {str(names[i]): fold for fold, part in enumerate(parts) for i in np.unique(speaker[part])}


def _speakers(clips: pa.Table) -> list[str]:
    return _in_order(clips["speaker"].unique().to_pylist())


def _in_order(names: list[str]) -> list[str]:
    """Sorted, runs of digits by their value.

    >>> _in_order(["a10", "b1", "a2"])
    ['a2', 'a10', 'b1']
    """

    def padded(name: str) -> tuple[str, str]:
        return re.sub("[0-9]+", lambda digits: digits[0].zfill(20), name), name

    return sorted(names, key=padded)


def _enough_speakers(clips: pa.Table, *, num_folds: int) -> list[str]:
    speakers = _speakers(clips)
    if len(speakers) < num_folds:
        if len(speakers) < 2:
            raise UserError(
                f"all {counted(len(clips), 'clips')} are of one speaker ({listed(speakers)}), wanted two or more: a model is "
                "scored on speakers that it was not trained on; look at data.speaker_column"
            )
        raise UserError(
            f"folds.num_folds is {num_folds} but there are only {counted(len(speakers), 'speakers')} "
            f"({listed(speakers)}): lower --folds.num_folds or add speakers"
        )
    return speakers


def _check_filled(fold: Int[np.ndarray, " clips"], folds: FoldsConfig) -> None:
    empty = sorted(set(range(folds.num_folds)) - set(fold.tolist()))
    if not empty:
        return
    if folds.kind == "published":
        actors = [actor for k in empty for actor in EMOBOX_ACTORS[k]]
        wanted = f"the data has no clip of the actors {', '.join(actors)}: add them"
    else:
        wanted = "no speaker is left for it: lower --folds.num_folds"
    raise UserError(
        f"fold {listed(empty)} of folds.kind={folds.kind} is empty, {wanted} or use another --folds.kind"
    )


def _check_classes(clips: pa.Table, fold: Int[np.ndarray, " clips"], *, num_folds: int) -> None:
    """Raises UserError where the clips outside a fold lack a class; warns where those in it do."""
    classes, target = numbered(clips["label"])
    counts = np.bincount(target * num_folds + fold, minlength=len(classes) * num_folds)
    counts = counts.reshape(len(classes), num_folds)
    for name, in_fold in zip(classes, counts, strict=True):
        held = np.flatnonzero(in_fold)
        if len(held) == 1:
            raise UserError(
                f"all {in_fold.sum()} clips of class {name!s} are in fold {held[0]}, so nothing teaches it "
                "when that fold is held out: add speakers of it, or merge or drop it with --data.classes"
            )
        if len(held) < num_folds:
            missing = listed(np.flatnonzero(in_fold == 0).tolist())
            logger.warning("fold %s holds out no clip of class %s: its UAR is over the others", missing, name)
