"""The clips that a saved model is scored on."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow.compute as pc

from w2v2.config.data import DataConfig, TaskKind
from w2v2.config.text import TextConfig
from w2v2.data import file_facts, manifest, transcripts, usable_clips
from w2v2.data.corpora.rows import OTHER_SPLIT
from w2v2.errors import UserError


def read_scored_clips(
    data: DataConfig, *, split: str, kind: TaskKind, names: Sequence[str], text: TextConfig | None
) -> manifest.Manifest:
    """The clips of a split ('' for all), labelled with what the model predicts, with sizes and fingerprints of their files.

    names are the model's outputs; text has the normalisation of its transcripts. Raises UserError where no clip has the
    split, and where labels differ from the model's.
    """
    data = usable_clips.with_demo_made(data, task=kind)
    clips = manifest.read(data, task=kind)
    if text is not None:
        clips = transcripts.with_references(clips, text)
    if split:
        clips = _of_split(clips, split)
    if kind != "transcript":
        _check_names(clips, kind, names)
    return file_facts.add_file_facts(clips, data)


def _of_split(clips: manifest.Manifest, split: str) -> manifest.Manifest:
    chosen = clips.clips.filter(pc.equal(clips.clips["split"], split))
    if not len(chosen):
        splits = sorted(clips.clips["split"].unique().to_pylist())
        raise UserError(f"no clip has split {split!r}; the data has {splits}: look at data.split_column")
    num_passed_over = len(clips.clips) - len(chosen)
    passed_over = {OTHER_SPLIT: num_passed_over} if num_passed_over else {}
    return replace(clips, clips=chosen, passed_over=dict(clips.passed_over) | passed_over)


def _check_names(clips: manifest.Manifest, kind: TaskKind, names: Sequence[str]) -> None:
    """Raises UserError for labels that the model does not predict, and for outputs that the data has no labels of.

    Only classes may be fewer in the data than in the model.
    """
    data_names = (
        manifest.classes_of(clips.clips)
        if kind == "classes"
        else [name for group in clips.groups for name in group]
    )
    unknown = [name for name in data_names if name not in names]
    lacking = [name for name in names if name not in data_names] if kind != "classes" else []
    if unknown or lacking:
        raise UserError(
            f"the model predicts {', '.join(names)}, the data has {', '.join(data_names)}: rename or drop classes with "
            "--data.classes, or choose the columns of the model's labels or values"
        )
