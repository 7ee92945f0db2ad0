"""Names that look the same: found, reported, and merged where that is asked for."""

import logging
import unicodedata

import pyarrow as pa
import pytest

from w2v2.config.data import DataConfig
from w2v2.data import manifest
from w2v2.data.names import alike, merged, spellings

GROUPS = [
    ["0", "00", "0.0"],
    ["7", "007", "7.0"],
    ["Anna", "anna", "Anna ", "An\u200bna", "ANNA\ufeff", "\u00a0Anna"],
    [unicodedata.normalize(form, "Zoé Müller") for form in ("NFC", "NFD")] + ["zoé  müller"],
    ["12", "\uff11\uff12"],
    ["Anna", "\u0410nna", "\u0391nn\u0430", "ann\u0430"],  # Cyrillic and Greek letters
    ["O'Neil", "O\u2019Neil", "o\u02bcneil"],
    ["S-01", "S\u201301", "s\u201101", "S\u22121", "s-001"],
    ["P01", "p1", "P001"],
    ["x\u2800", "\u3164x", "x\ufe0f", "x\u034f", "\u202ex\u202c", "x\u00ad", "x\t", "x\r\n"],
    ["\u041d\u0438\u043d\u0430", "\u043d\u0438\u043d\u0430"],  # Nina in Cyrillic, of any case
    ["\ufb01sh", "fish", "FISH"],
]


@pytest.mark.parametrize("group", GROUPS)
def test_alike(group: list[str]) -> None:
    assert len({alike(name) for name in group}) == 1


def test_not_alike() -> None:
    different = [
        "1",
        "10",
        "100",
        "01a",
        "1a",
        "s1",
        "s10",
        "Ann",
        "Anna",
        "Zoe",
        "Zoé",
        "हि",
        "हु",
        "-1",
        "0.5",
        "5",
    ]
    assert len({alike(name) for name in different}) == len(different)


def table(*speakers: str) -> pa.Table:
    return pa.table({"clip_id": [str(i) for i in range(len(speakers))], "speaker": list(speakers)})


def test_the_commonest_spelling_wins() -> None:
    clips = table("anna", "Anna", "Anna", "bob", "")
    assert spellings(clips["speaker"].to_pylist()) == [["Anna", "anna"]]
    assert merged(clips, "speaker", merge=True)["speaker"].to_pylist() == ["Anna", "Anna", "Anna", "bob", ""]


@pytest.mark.parametrize("merge", [False, True])
def test_speakers_and_classes_of_a_csv(tmp_path, merge: bool, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["a.wav,sad,7", "b.wav,Sad,07", "c.wav,sad ,7.0", "d.wav,happy,8"]
    (tmp_path / "clips.csv").write_text("\n".join(["uri,label,speaker", *rows]))
    with caplog.at_level(logging.INFO, "w2v2"):
        clips = manifest.read(DataConfig(uri=str(tmp_path / "clips.csv"), merge_names=merge)).clips
    if merge:
        assert clips["speaker"].to_pylist() == ["07", "07", "07", "8"]
        assert clips["label"].to_pylist() == ["sad", "sad", "sad", "happy"]
    else:
        assert clips["speaker"].to_pylist() == ["7", "07", "7.0", "8"]
        assert (
            "1 speaker is written in several ways and counts as different ones, which may put" in caplog.text
        )
        assert "1 label is written in several ways and counts as different ones: 'sad' = 'Sad'" in caplog.text
        assert "'07' = '7' = '7.0'" in caplog.text and "'sad' = 'Sad'" in caplog.text
