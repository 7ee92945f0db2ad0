"""Corpora as they are published: who speaks, what, in which fold; what does not belong is a reject or counted."""

from pathlib import Path

import pytest

from w2v2.config.data import DataConfig, FoldsConfig
from w2v2.data import folds, manifest, usable_clips
from w2v2.errors import UserError

NAMES = {
    "emodb": {
        "wav/03a01Fa.wav": ("03", "happiness"),
        "16b10Wb.wav": ("16", "anger"),
        "08a05La.wav": ("08", "boredom"),
        "09b02Ta.wav": ("09", "sadness"),
        "10a02N.wav": ("10", "neutral"),
    },
    "crema_d": {
        "AudioWAV/1001_DFA_ANG_XX.wav": ("1001", "anger"),
        "1091_WSI_SAD_HI.wav": ("1091", "sad"),
        "1040_ITH_SAD_X.wav": ("1040", "sad"),  # published so, with one X
    },
    "savee": {
        "DC_a01.wav": ("DC", "anger"),
        "JE/sa02.wav": ("JE", "sadness"),
        "KL/su15.wav": ("KL", "surprise"),
        "JK_n30.wav": ("JK", "neutral"),
    },
    "tess": {
        "OAF_Fear/OAF_back_fear.wav": ("OAF", "fear"),
        "YAF_dog_ps.wav": ("YAF", "surprised"),
        "OA_bite_neutral.wav": ("OAF", "neutral"),
    },
}


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize("layout", NAMES)
def test_names(layout, tmp_path: Path) -> None:
    touch(tmp_path, *NAMES[layout], "notes.txt", "other.wav")
    corpus = manifest.read(DataConfig(uri=str(tmp_path), layout=layout))
    got = {row["clip_id"]: (row["speaker"], row["label"]) for row in corpus.clips.to_pylist()}
    assert got == NAMES[layout]
    assert corpus.rejects["kind"].to_pylist() == ["name not of the corpus"]
    assert corpus.passed_over == {"files that are not audio": 1}
    with pytest.raises(
        UserError, match=f"data.layout={layout} has one class a clip, got task.kind=regression"
    ):
        manifest.read(DataConfig(uri=str(tmp_path), layout=layout), task="regression")
    with pytest.raises(
        UserError, match=f"are the folds of RAVDESS, got data.layout={layout}: none were published"
    ):
        usable_clips.refuse_foreign_folds(DataConfig(uri=str(tmp_path), layout=layout), FoldsConfig())


def iemocap(root: Path) -> None:
    for session in range(1, 6):
        lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"]
        for sex in "FM":
            for number, emotion in enumerate(("neu", "ang", "xxx")):
                name = f"Ses0{session}F_impro01_{sex}00{number}"
                lines.append(f"[6.2901 - 8.2357]\t{name}\t{emotion}\t[2.5000, 2.{number}000, 3.0000]\n")
                lines.append("C-E2:\tNeutral;\t()\n")
                touch(root, f"Session{session}/sentences/wav/Ses0{session}F_impro01/{name}.wav")
        lines.append(f"[9.0 - 9.5]\tSes0{session}F_impro01_F009\tneu\t[2.5000, 2.5000, 2.5000]\n")
        table = root / f"Session{session}/dialog/EmoEvaluation/Ses0{session}F_impro01.txt"
        table.parent.mkdir(parents=True)
        table.write_text("".join(lines))
    touch(root, "Session1/dialog/wav/Ses01F_impro01.wav", "Session1/sentences/wav/x/Ses01F_impro09_F000.wav")


def test_iemocap(tmp_path: Path) -> None:
    iemocap(tmp_path)
    corpus = manifest.read(DataConfig(uri=str(tmp_path), layout="iemocap", classes={"no agreement": "drop"}))
    assert len(corpus.clips) == 20 and set(corpus.clips["label"].to_pylist()) == {"neutral", "angry"}
    assert len(set(corpus.clips["speaker"].to_pylist())) == 10
    assert corpus.rejects["reason"].to_pylist()[0] == "missing: no Ses01F_impro01_F009.wav"
    assert corpus.passed_over["recordings without a row"] == 1 and corpus.passed_over["dropped classes"] == 10
    clips = folds.assign(corpus.clips, FoldsConfig(kind="column", num_folds=5))
    for row in clips.to_pylist():
        assert f"Ses0{row['fold'] + 1}" == row["speaker"][:5]
    folds.audit(clips)
    values = manifest.read(DataConfig(uri=str(tmp_path), layout="iemocap"), task="regression")
    assert values.clips["target_activation"].to_pylist()[:3] == [2.0, 2.1, 2.2]


def test_msp_podcast(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [
        "MSP-PODCAST_0001_0008.wav,N,2.4,3.8,3.0,127,Male,Train",
        "MSP-PODCAST_0001_0019.wav,H,2.0,4.5,3.1,128,Female,Development",
        "MSP-PODCAST_0002_0033.wav,A,5.0,2.0,5.5,Unknown,Male,Test1",
        "MSP-PODCAST_0002_0051.wav,S,2.0,2.0,2.5,130,Male,Test2",
        "MSP-PODCAST_0003_0001.wav,N,2.0,2.0,2.5,131,Male,Train",
    ]
    header = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
    touch(tmp_path, *(f"Audios/{row.partition(',')[0]}" for row in rows[:4]), "Audios/other.wav")
    (tmp_path / "Labels").mkdir()
    (tmp_path / "Labels/labels_consensus.csv").write_text("\n".join([header, *rows]))
    corpus = manifest.read(DataConfig(uri=str(tmp_path), layout="msp_podcast"))
    assert corpus.clips["split"].to_pylist() == ["train", "val", "test"]
    assert corpus.clips["label"].to_pylist() == ["neutral", "happy", "angry"]
    assert corpus.clips["speaker"].to_pylist() == ["127", "128", "MSP-PODCAST_0002_0033.wav"]
    assert corpus.rejects["kind"].to_pylist() == ["missing"]
    wanted = {"files that are not audio": 1, "other splits": 1, "recordings without a row": 1}
    assert corpus.passed_over == wanted and "1 turns have an unknown speaker" in caplog.text
    values = manifest.read(DataConfig(uri=str(tmp_path), layout="msp_podcast"), task="regression")
    assert values.clips["target_valence"].to_pylist() == [3.8, 4.5, 2.0]


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        (["", "", ""], "wants the fold of each clip in the column data.split_column"),
        (["a", "", "b"], "some clips have an empty data.split_column"),
        (
            ["a", "b", "c"],
            r"num_folds is 2, but data.split_column has 3 different values .*--folds.num_folds 3",
        ),
        (["a", "b", "a"], "1 speaker with clips in more than one split: y"),
    ],
)
def test_folds_of_a_column_that_cannot_be(splits, message, tmp_path: Path) -> None:
    rows = [
        f"{i}.wav,{label},{speaker},{split}"
        for i, (label, speaker, split) in enumerate(zip("kll", "xyy", splits, strict=True))
    ]
    (tmp_path / "c.csv").write_text("\n".join(["uri,label,speaker,split", *rows]))
    clips = manifest.read(DataConfig(uri=str(tmp_path / "c.csv"))).clips
    with pytest.raises(UserError, match=message):
        folds.assign(clips, FoldsConfig(kind="column", num_folds=2))
