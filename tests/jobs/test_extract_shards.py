"""An extraction in several shards: the table, the manifest and the numbers of one that has a single shard."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.jobs.test_extract_embeddings import small_corpus
from w2v2.cluster.embedding import Encoders
from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.resources import ExtractionResources
from w2v2.data import clip_shards
from w2v2.inference import todo
from w2v2.jobs import extract_embeddings
from w2v2.storage import parquet
from w2v2.tables import spool
from w2v2.tables.duckdb_table import DuckTable

NUM_CLIPS, NUM_BROKEN = 24, 2
OF_A_RUN = ("run_id", "created_at", "embedding")


@pytest.fixture
def config(tmp_path, corpus, bucket) -> ExtractConfig:
    """Clips in a bucket, not under names of RAVDESS, two of them broken."""
    folder = small_corpus(corpus, tmp_path / "audio")
    for number, path in enumerate(sorted(folder.rglob("*.wav"))):
        bucket.put("speech", f"clips/{number % 5}/{number:02d}.wav", path.read_bytes())
    for number in range(NUM_BROKEN):
        bucket.put("speech", f"clips/{number}/broken.wav", b"not audio")
    return ExtractConfig(
        run=str(tmp_path / "run"),
        local=True,
        data=DataConfig(uri="gs://speech/clips", max_reject_fraction=0.1),
        resources=ExtractionResources(num_workers=1, clips_per_part=3),
    )


@pytest.fixture
def in_shards(monkeypatch):
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 5)
    monkeypatch.setattr(todo, "MAX_IN_MEMORY", 6)
    monkeypatch.setattr(todo, "CLIPS_PER_FILE", 4)
    monkeypatch.setattr(DuckTable, "bytes_per_commit", 7 * 500)
    monkeypatch.setattr(parquet, "MANY_RECORDS", 2)
    monkeypatch.setattr(spool, "ROWS_AT_ONCE", 4)


def rows_of(config: ExtractConfig) -> pa.Table:
    with duckdb.connect(str(Path(config.run) / "embeddings.db"), read_only=True) as connection:
        return connection.sql("FROM embeddings ORDER BY clip_id").to_arrow_table()


def manifest_of(config: ExtractConfig) -> pa.Table:
    files = sorted(Path(config.run).glob("manifest/*.parquet")) or [Path(config.run) / "manifest.parquet"]
    return pa.concat_tables([pq.read_table(file) for file in files])


def counts_of(metrics: dict) -> tuple[int, int, int, int]:
    return tuple(metrics[name] for name in ("num_made", "written", "in_table", "rejected"))


def test_shards_change_nothing(config, request):
    one = extract_embeddings.main(config)
    request.getfixturevalue("in_shards")
    several = replace(config, run=f"{config.run}2")
    metrics = extract_embeddings.main(several)
    assert counts_of(metrics) == counts_of(one) == (NUM_CLIPS + NUM_BROKEN, NUM_CLIPS, 0, NUM_BROKEN)
    assert metrics["rows"] == one["rows"] and metrics["clips"] == one["clips"]
    expected, sharded = rows_of(config), rows_of(several)
    assert sharded.drop_columns(OF_A_RUN).equals(expected.drop_columns(OF_A_RUN))
    vectors = [np.array(rows["embedding"].to_pylist()) for rows in (sharded, expected)]
    assert np.abs(vectors[0] - vectors[1]).max() < 1e-5
    manifests = [manifest_of(run).sort_by("clip_id") for run in (several, config)]
    same = ("clip_id", "uri", "fingerprint", "checksum", "status", "reject_kind", "duration_s", "num_rows")
    assert manifests[0].select(same).equals(manifests[1].select(same))
    run = Path(several.run)
    assert len(list(run.glob("manifest/*.parquet"))) == 6 and not (run / "manifest.parquet").exists()
    assert list(run.glob("todo/*")) == [] and len(list(run.glob("done/*"))) == 1
    assert f"of the {NUM_CLIPS + NUM_BROKEN} clips" in (run / "report.html").read_text()

    assert counts_of(extract_embeddings.main(several)) == (0, 0, NUM_CLIPS, NUM_BROKEN)
    assert rows_of(several).equals(sharded)


class Stopped(Exception):
    pass


class StoppedEncoders(Encoders):
    """Encoders that stop after some parts."""

    def embed(self, *args):
        for number, part in enumerate(super().embed(*args)):
            if number == 3:
                raise Stopped
            yield part


def test_a_run_that_was_stopped_resumes_in_other_shards(config, bucket, in_shards, monkeypatch):
    with pytest.raises(Stopped):
        extract_embeddings.extract(config, StoppedEncoders)
    num_done = sum(len(pq.read_table(file)) for file in Path(config.run).glob("done/*"))
    assert 0 < num_done < NUM_CLIPS
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 1000)
    metrics = extract_embeddings.main(config)
    assert counts_of(metrics) == (NUM_CLIPS + NUM_BROKEN - num_done, NUM_CLIPS, 0, NUM_BROKEN)
    assert len(rows_of(config)) == NUM_CLIPS
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 9)
    bucket.put("speech", "clips/0/00.wav", bucket.get("speech", "clips/4/04.wav"))
    assert counts_of(extract_embeddings.main(config)) == (1, 1, NUM_CLIPS - 1, NUM_BROKEN)
    rows = {row["clip_id"]: row for row in rows_of(config).to_pylist()}
    assert rows["0/00.wav"]["checksum"] == rows["4/04.wav"]["checksum"]
    monkeypatch.setattr(clip_shards, "SHARD_CLIPS", 1000)
    assert counts_of(extract_embeddings.main(config)) == (0, 0, NUM_CLIPS, NUM_BROKEN)
    assert not (Path(config.run) / "manifest").exists() or not list(Path(config.run).glob("manifest/*"))
    assert (Path(config.run) / "manifest.parquet").exists()


def test_a_plan_of_several_shards_is_that_of_one(config, request):
    one = extract_embeddings.main(replace(config, plan=True))
    request.getfixturevalue("in_shards")
    several = extract_embeddings.main(replace(config, plan=True))
    for name in ("num_clips", "num_bytes", "num_rows", "clips"):
        assert several[name] == one[name]
