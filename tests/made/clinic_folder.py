"""A clinic's folder, written and read in tests."""

from w2v2.config.data import DataConfig
from w2v2.data import manifest

FILES = ("A/r1.wav", "A/r2.flac", "B/u3/waveform.mp3", "B/u3/metadata.json", "u4/waveform.wav", "r5.ogg")
TRAIN = "file_name,speaker,tremor,breathy,pitch\nr1.wav,p1,1,0,101.5\nr2,p1,0,,\nu3,p2,,1,99\n"
TEST = "UID,Speaker,breathy,tremor,pitch\nu4,p3,0,0,-1e3\nr5,p4,1.0,,7\n"


def make(tmp_path, *, files=FILES, train=TRAIN, test=TEST, labels="tremor,breathy\n", **tables):
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened here")
    for name, text in {"train": train, "test": test, **tables}.items():
        if text is not None:
            (tmp_path / f"{name}.csv").write_text(text)
    if labels is not None:
        (tmp_path / "labels.txt").write_text(labels)
    return str(tmp_path)


def read(tmp_path, *, task="multi_label", extra_columns=(), data=None, **made):
    uri = make(tmp_path, **made)
    return manifest.read(
        DataConfig(uri=uri, layout="clinic", **(data or {})), task=task, extra_columns=extra_columns
    )


def column(result, name):
    return dict(zip(result.clips["clip_id"].to_pylist(), result.clips[name].to_pylist(), strict=True))
