"""What is to be done of an extraction: what tables and records of earlier versions have is not made again."""

import datetime
import hashlib
import io
import math
from dataclasses import astuple, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from w2v2.config.data import AudioConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.data.recording_quality import QUALITY
from w2v2.inference import extraction
from w2v2.inference.extraction import DONE, ExtractionJob, sort_out, spec_of
from w2v2.inference.outcomes import done_before
from w2v2.tables.parts import write_part
from w2v2.tables.table import open_table

AUDIO = AudioConfig(fixed_s=2.0)
DAY = datetime.timedelta(days=1)


def job_of(run: str, audio: AudioConfig = AUDIO) -> ExtractionJob:
    return ExtractionJob(
        config=ExtractConfig(run=run, audio=audio),
        digest="weights",
        num_layers=2,
        dim=2,
        min_samples=400,
        max_s=math.inf,
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
    assert statuses(tmp_path, table) == ["in_table", "in_table"]
    assert statuses(tmp_path, table, audio=replace(AUDIO, fixed_s=3.0)) == ["", ""]


def test_records_of_earlier_versions_are_not_made_again(tmp_path):
    job = job_of(str(tmp_path / "run"))
    clip = CLIPS.to_pylist()[1]
    identity = (job.digest, job.layers, job.config.extra_columns, tuple(job.constants.items()))
    before = settings_before(AUDIO, clip["start_s"], clip["end_s"])
    inputs = digest_before(identity, before, clip["start_s"], clip["end_s"], clip["uri"], clip["fingerprint"])
    row = {"clip_id": "b", "uri": "/b.wav", "inputs": inputs, "fingerprint": "fb", "status": "rejected"}
    row |= {"reason": "silent: x", "checksum": "cb", "duration_s": 0.0, "num_rows": 0, "part": ""}
    done = pa.Table.from_pylist([row], schema=DONE)
    assert statuses(tmp_path, None, done=done) == ["", "rejected"]
    clips = sort_out(CLIPS, job, done=done, table=None)
    [(clip_id, reject)] = extraction.rejected(clips)
    assert (clip_id, reject.kind) == ("b", "silent: x")


def record(clip, job, *, created_at, part="p"):
    """The outcome of an embedding as this version records it."""
    [inputs] = sort_out(CLIPS.filter(pc.equal(CLIPS["clip_id"], clip)), job, done=DONE.empty_table(), table=None)["inputs"].to_pylist()  # fmt: skip
    row = (
        dict.fromkeys(DONE.names, "")
        | dict.fromkeys(QUALITY)
        | {
            "clip_id": clip,
            "inputs": inputs,
            "status": "embedded",
            "part": part,
        }
    )
    return row | {"checksum": f"c{clip}", "duration_s": 1.0, "num_rows": 1, "created_at": created_at}


@pytest.mark.parametrize("status", ["there", "in_table"])
def test_a_record_that_the_table_has_a_clip_gives_its_checksum_whatever_version_wrote_it(
    tmp_path, table, status
):
    # Of a file on the local disk the checksum is known only from records; earlier versions wrote "there".
    job = job_of(str(tmp_path / "run"))
    row = record("a", job, created_at=None, part="") | {
        "uri": "/a.wav",
        "fingerprint": "fa",
        "status": status,
    }
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=DONE), data)
    name = f"{hashlib.sha256(data.getvalue()).hexdigest()[:40]}.parquet"
    (tmp_path / "run" / "done").mkdir(parents=True)
    (tmp_path / "run" / "done" / name).write_bytes(data.getvalue())
    done = pa.concat_tables(done_before(job.config))
    assert done["status"].to_pylist() == [status]
    clips = CLIPS.set_column(CLIPS.column_names.index("checksum"), "checksum", pa.array(["", ""]))
    sorted_out = sort_out(clips, job, done=done, table=table)
    assert sorted_out["status"].to_pylist() == ["in_table", ""]
    assert extraction.counts(sorted_out) == {"embedded": 0, "in_table": 1, "rejected": 0}
    assert sort_out(clips, job, done=done, table=None)["status"].to_pylist() == ["", ""]


def test_outcomes_older_than_the_rows_of_other_settings_are_made_again(tmp_path, table):
    # The table has rows of AUDIO; other settings were embedded by this run before that, or after.
    job = job_of(str(tmp_path / "run"), replace(AUDIO, fixed_s=3.0))
    now = datetime.datetime.now(datetime.UTC)
    for created_at, status in ((now - DAY, ""), (now + DAY, "embedded"), (None, "")):
        done = pa.Table.from_pylist([record("a", job, created_at=created_at)], schema=DONE)
        clips = sort_out(CLIPS, job, done=done, table=table)
        assert clips["status"].to_pylist() == [status, ""]
        assert clips["part"].to_pylist() == ["p" if status else "", ""]
    both = [
        record("a", job, created_at=now - DAY, part="old"),
        record("a", job, created_at=now + DAY, part="new"),
    ]
    for rows in (both, both[::-1]):
        clips = sort_out(CLIPS, job, done=pa.Table.from_pylist(rows, schema=DONE), table=table)
        assert clips["part"].to_pylist() == ["new", ""]


def test_clips_that_are_in_the_table_keep_their_parts_for_the_page(tmp_path, table):
    job = job_of(str(tmp_path / "run"))
    done = pa.Table.from_pylist(
        [record("a", job, created_at=datetime.datetime.now(datetime.UTC))], schema=DONE
    )
    clips = sort_out(CLIPS, job, done=done, table=table)
    assert clips["status"].to_pylist() == ["in_table", "in_table"] and clips["duration_s"].to_pylist() == [
        1.0,
        None,
    ]
    assert extraction.parts_of(clips, "/run") == [] and extraction.parts_to_draw(clips, "/run") == [
        "/run/parts/p"
    ]


def test_written_clips_that_the_table_has_otherwise_are_counted(tmp_path, table):
    job = job_of(str(tmp_path / "run"))
    written = sort_out(CLIPS, job, done=DONE.empty_table(), table=table)
    written = written.set_column(written.column_names.index("status"), "status", pa.array(["embedded"] * 2))
    assert extraction.lost_to_newer(written, job, table) == 0
    other = job_of(str(tmp_path / "run"), replace(AUDIO, fixed_s=3.0))
    clips = sort_out(CLIPS, other, done=DONE.empty_table(), table=table)
    clips = clips.set_column(clips.column_names.index("status"), "status", pa.array(["embedded", "in_table"]))
    assert extraction.lost_to_newer(clips, other, table) == 1
