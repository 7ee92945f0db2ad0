"""What a plan writes as CSV is read back to the same clips, whatever the layout that it was read from."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.data.corpora.test_published_layouts import NAMES, iemocap, touch
from tests.made.corpora import clinic_corpus, deam_corpus, labelled_csv, sentences_csv
from w2v2.config import command_line
from w2v2.config.data import DataConfig, FoldsConfig, SplitConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.data import clip_csv, folds, manifest, splits
from w2v2.data.corpora.labels_file import labels_text
from w2v2.data.manifest import Manifest


def ravdess(root: Path) -> DataConfig:
    touch(
        root,
        *(f"Actor_{a:02}/03-01-{e:02}-01-01-01-{a:02}.wav" for a in range(1, 25) for e in (1, 3, 5)),
        ".x.wav",
    )
    return DataConfig(uri=str(root), classes={"angry": "drop", "neutral": "calm"})


def csv(root: Path) -> DataConfig:
    root.mkdir()
    rows = [
        "a.wav;0,5;1,5;froh;=Anna;x",
        "a.wav;1,5;;=1+1;anna;-2",
        "../b.wav;;2;froh;007;",
        "c.wav;;;-;'tis;@y",
    ]
    (root / "t.csv").write_text("\n".join(["file;start;end;Emotion;Wer;device", *rows]))
    return DataConfig(
        uri=str(root / "t.csv"),
        label_column="Emotion",
        speaker_column="Wer",
        merge_names=True,
        slice_columns=("device",),
    )


def published(layout: str) -> Any:
    def make(root: Path) -> DataConfig:
        touch(root, *NAMES[layout])
        return DataConfig(uri=str(root), layout=layout)  # type: ignore[arg-type]

    return make


def sessions(root: Path) -> DataConfig:
    iemocap(root)
    return DataConfig(
        uri=str(root), layout="iemocap", classes={"no agreement": "drop"}, max_reject_fraction=0.2
    )


def msp_podcast(root: Path) -> DataConfig:
    names = [f"MSP-PODCAST_0001_000{i}.wav" for i in range(4)]
    touch(root, *(f"Audios/{name}" for name in names))
    rows = [
        f"{name},N,2.5,{i}.125,3.0,12{i},Male,{s}"
        for i, (name, s) in enumerate(zip(names, ("Train", "Development", "Test1", "Test2"), strict=True))
    ]
    (root / "labels_consensus.csv").write_text(
        "\n".join(["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set", *rows])
    )
    return DataConfig(uri=str(root), layout="msp_podcast")


def librispeech(root: Path) -> DataConfig:
    for part, speaker in (("train-clean-100", 84), ("dev-clean", 174), ("test-other", 367)):
        folder = root / part / str(speaker) / "1"
        touch(root, *(f"{part}/{speaker}/1/{speaker}-1-000{i}.flac" for i in range(2)))
        (folder / f"{speaker}-1.trans.txt").write_text(
            f'{speaker}-1-0000 HELLO THERE\n{speaker}-1-0001 =A, "B"\n'
        )
    return DataConfig(uri=str(root), layout="librispeech")


def common_voice(root: Path) -> DataConfig:
    touch(root, "clips/a.mp3", "clips/b.mp3")
    for name in ("train", "test"):
        (root / f"{name}.tsv").write_text(
            f'client_id\tpath\tsentence\nid{name}\t{name}\t"Ja; nein", sagt er.\n'
        )
    return DataConfig(uri=str(root), layout="common_voice")


def files(root: Path) -> DataConfig:
    touch(root, "a b.wav", "ü/x.mp3", "=c.flac")
    return DataConfig(uri=str(root), layout="files")


def made(maker: Any, layout: str) -> Any:
    def make(root: Path) -> DataConfig:
        return DataConfig(uri=str(maker(root)), layout=layout, max_reject_fraction=0.5)  # type: ignore[arg-type]

    return make


CASES: dict[str, tuple[Any, Any]] = {
    "ravdess": (ravdess, "classes"),
    "csv": (csv, "classes"),
    **{layout: (published(layout), "classes") for layout in NAMES},
    "iemocap": (sessions, "classes"),
    "iemocap values": (sessions, "none"),
    "msp_podcast": (msp_podcast, "classes"),
    "msp_podcast values": (msp_podcast, "regression"),
    "clinic": (made(clinic_corpus, "clinic"), "multi_label"),
    "deam": (made(deam_corpus, "deam"), "regression"),
    "librispeech": (librispeech, "transcript"),
    "common_voice": (common_voice, "transcript"),
    "labelled csv": (made(labelled_csv, "csv"), "classes"),
    "sentences csv": (made(sentences_csv, "csv"), "transcript"),
    "files": (files, "none"),
}  # fmt: skip


def assigned(corpus: Manifest, case: str) -> Manifest:
    """With folds where there are enough speakers of every class."""
    if case not in ("ravdess", "iemocap"):
        return corpus
    clips = folds.assign(corpus.clips, FoldsConfig(kind="grouped", num_folds=2))
    return Manifest(clips=clips, rejects=corpus.rejects, groups=corpus.groups)


@pytest.mark.parametrize("case", CASES)
def test_the_csv_is_read_back_to_the_same_clips(case: str, tmp_path: Path) -> None:
    make, task = CASES[case]
    data = make(tmp_path / "data")
    corpus = assigned(manifest.read(data, task=task), case)
    content, num_lost = clip_csv.clips_csv(corpus, task=task, extra_columns=data.slice_columns)
    assert num_lost == 0
    uri = tmp_path / "elsewhere" / "clips.csv"
    uri.parent.mkdir()
    uri.write_bytes(content)
    labels = tmp_path / "labels.txt"
    labels.write_text(labels_text(corpus.groups))
    now = clip_csv.read_back(
        data,
        corpus,
        str(uri),
        labels_uri=str(labels) if len(corpus.groups) > 1 and task == "multi_label" else "",
    )
    again = manifest.read(now, task=task)
    assert len(again.rejects) == 0 and again.groups == corpus.groups
    assert assigned(again, case).clips.equals(corpus.clips)
    # The flags that the log shows turn the command's settings into these.
    words = [f"--data.{name}={value}" for name, value in _text(data).items()] + shlex.split(
        clip_csv.flags(data, now)
    )
    assert command_line.parse(FinetuneConfig, words).data == now


def _text(data: DataConfig) -> dict[str, str]:
    import json

    tree = command_line.tree(data)
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in tree.items()
        if value != getattr(DataConfig(), name)
    }


def test_splits_that_were_drawn_are_kept(tmp_path: Path) -> None:
    data = ravdess(tmp_path / "data")
    corpus = manifest.read(data)
    drawn = splits.assign(corpus.clips, SplitConfig(seed=3), FoldsConfig(), need_val=True)
    (tmp_path / "c.csv").write_bytes(
        clip_csv.clips_csv(Manifest(clips=drawn, rejects=corpus.rejects), task="classes")[0]
    )
    again = manifest.read(clip_csv.read_back(data, corpus, str(tmp_path / "c.csv"))).clips
    assert splits.assign(again, SplitConfig(seed=4), FoldsConfig(), need_val=True)["split"].equals(
        drawn["split"]
    )


def test_folds_that_were_edited_are_used(tmp_path: Path) -> None:
    data = ravdess(tmp_path / "data")
    corpus = manifest.read(data)
    corpus = Manifest(clips=folds.assign(corpus.clips, FoldsConfig()), rejects=corpus.rejects)
    text = clip_csv.clips_csv(corpus, task="classes")[0].decode()
    (tmp_path / "c.csv").write_text(text)
    back = clip_csv.read_back(data, corpus, str(tmp_path / "c.csv"))
    again = manifest.read(DataConfig(uri=back.uri, layout="csv", split_column="fold"))
    assert folds.assign(again.clips, FoldsConfig(kind="column"))["fold"].equals(corpus.clips["fold"])


def test_names_that_no_csv_gives_back_are_counted(tmp_path: Path) -> None:
    touch(tmp_path / "d", "a.wav", "line\nbreak.wav", "'=b.wav")
    corpus = manifest.read(DataConfig(uri=str(tmp_path / "d"), layout="files"), task="none")
    content, num_lost = clip_csv.clips_csv(corpus, task="none")
    assert num_lost == 2 and content.decode().splitlines() == ["clip_id,uri", f"a.wav,{tmp_path}/d/a.wav"]
