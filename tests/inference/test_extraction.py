"""What is to be done of an extraction: what tables and records of earlier versions have is not made again."""

import datetime
import hashlib
from dataclasses import astuple, replace

import pyarrow as pa
import pytest

from w2v2.config.data import AudioConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.inference import extraction
from w2v2.inference.extraction import DONE, Job, sort_out, spec_of
from w2v2.tables.parts import write_part
from w2v2.tables.table import open_table

AUDIO = AudioConfig(fixed_s=2.0)


def job_of(run: str, audio: AudioConfig = AUDIO) -> Job:
    return Job(
        config=ExtractConfig(run=run, audio=audio),
        digest="weights",
        num_layers=2,
        dim=2,
        min_samples=400,
        layers=("last",),
        run_id="r",
        code_version="0",
    )


CLIPS = pa.table(
    {
        "clip_id": ["a", "b"], "uri": ["/a.wav", "/b.wav"], "start_s": [0.0, 1.0], "end_s": [float("inf"), 2.0],
        "fingerprint": ["fa", "fb"], "checksum": ["ca", "cb"], "size_bytes": [1, 2], "label": ["", ""],
    }
)  # fmt: skip


def digest_before(*parts: object) -> str:
    """As versions before the digest of settings hashed them."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def settings_before(audio: AudioConfig, start_s: float, end_s: float) -> str:
    return digest_before((1, astuple(audio), 0.0, 0.0, "float32"), start_s, end_s)


@pytest.fixture
def table(tmp_path):
    """A table with the vectors of both clips, written by an earlier version."""
    job = job_of(str(tmp_path / "run"))
    spec = spec_of(job.config)
    rows = [
        {name: "" for name in spec.schema.names}
        | {"clip_id": clip["clip_id"], "layer": "last", "start_s": clip["start_s"], "end_s": 1.5, "dim": 2}
        | {"embedding": [0.0, 1.0], "checksum": clip["checksum"], "sample_rate": 16_000, "duration_s": 1.0}
        | {"settings": settings_before(AUDIO, clip["start_s"], clip["end_s"]), **job.constants}
        | {"created_at": datetime.datetime.now(datetime.UTC)}
        for clip in CLIPS.to_pylist()
    ]
    table = open_table(str(tmp_path / "table"), spec)
    table.commit([write_part(str(tmp_path / "parts"), pa.Table.from_pylist(rows, spec.schema), spec=spec)])
    return table


def statuses(tmp_path, table, *, audio=AUDIO, done=None):
    job = job_of(str(tmp_path / "run"), audio)
    done = DONE.empty_table() if done is None else done
    return sort_out(CLIPS, job, done=done, table=table)["status"].to_pylist()


def test_rows_of_earlier_versions_are_not_made_again(tmp_path, table):
    assert statuses(tmp_path, table) == ["there", "there"]
    assert statuses(tmp_path, table, audio=replace(AUDIO, fixed_s=3.0)) == ["", ""]


def test_records_of_earlier_versions_are_not_made_again(tmp_path):
    job = job_of(str(tmp_path / "run"))
    clip = CLIPS.to_pylist()[1]
    identity = (job.digest, job.layers, job.config.carried, tuple(job.constants.items()))
    before = settings_before(AUDIO, clip["start_s"], clip["end_s"])
    inputs = digest_before(identity, before, clip["start_s"], clip["end_s"], clip["uri"], clip["fingerprint"])
    row = {"clip_id": "b", "uri": "/b.wav", "inputs": inputs, "fingerprint": "fb", "status": "rejected"}
    row |= {"reason": "silent: x", "checksum": "cb", "duration_s": 0.0, "num_rows": 0, "part": ""}
    done = pa.Table.from_pylist([row], schema=DONE)
    assert statuses(tmp_path, None, done=done) == ["", "rejected"]
    clips = sort_out(CLIPS, job, done=done, table=None)
    [(clip_id, reject)] = extraction.rejected(clips)
    assert (clip_id, reject.kind) == ("b", "silent: x")
