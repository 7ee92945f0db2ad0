"""Mistakes in the settings of an extraction, each in one sentence, and too many rejects."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.made.extraction import extract_config, rows_of, small_corpus
from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import VectorConfig
from w2v2.config.resources import ExtractionResources
from w2v2.errors import UserError
from w2v2.jobs import extract_embeddings

ONE_ENCODER = ExtractionResources(num_workers=1, clips_per_part=5)


@pytest.fixture(scope="module")
def audio(corpus, tmp_path_factory) -> Path:
    return small_corpus(corpus, tmp_path_factory.mktemp("audio"))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(table="bq://nothing"), r"is not a BigQuery table: write bq://project.dataset.table"),
        (dict(table="duckdb:///tmp/x.db?table=a;b"), r"is not a DuckDB table"),
        (
            dict(encoder=VectorConfig(layers=9)),
            r"encoder.layers must be at most 2, the layers of tiny, got 9",
        ),
        (
            dict(encoder=VectorConfig(layers=(0, 9))),
            r"encoder.layers must be at most 2, the layers of tiny, got 9",
        ),
        (dict(encoder=VectorConfig(name="/nowhere/model")), r"encoder.name '/nowhere/model': no such folder"),
        (
            dict(resources=ExtractionResources(precision="bf16")),
            r"resources.precision is bf16, but the cluster has no GPU",
        ),
        (dict(labels=("dim",)), r"is no CSV and has no columns, but 'dim' are asked for"),
        (dict(data=DataConfig(uri="/nowhere")), r"/nowhere: no such file or folder"),
        (dict(data=DataConfig(uri="s3://bucket/x")), r"s3://bucket/x"),
    ],
    ids=str,
)
def test_mistakes_are_one_sentence(tmp_path, audio, ray_session, change, message):
    with pytest.raises(UserError, match=message) as caught:
        extract_embeddings.main(extract_config(tmp_path, audio, **change))
    assert "Traceback" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["dim", "status"])
def test_columns_that_have_another_use_are_refused(tmp_path, audio, name):
    path = next(audio.rglob("*.wav"))
    (tmp_path / "clips.csv").write_text(f"uri,{name}\n{path},1\n")
    config = extract_config(tmp_path, tmp_path / "clips.csv", labels=(name,))
    with pytest.raises(UserError, match="rename"):
        extract_embeddings.main(config)


def test_too_many_rejects_stop_the_run_before_the_table_is_touched(tmp_path, audio):
    folder = shutil.copytree(audio, tmp_path / "audio")
    for path in sorted(folder.rglob("*.wav"))[:3]:
        path.write_bytes(b"")
    config = extract_config(tmp_path, folder, resources=ONE_ENCODER, local=True)
    with pytest.raises(UserError, match=r"3 of 24 clips were rejected, .* empty \(3\)") as caught:
        extract_embeddings.main(config)
    assert "--data.max_reject_fraction" in str(caught.value)
    assert rows_of(config) == [] and len(pq.read_table(Path(config.run) / "rejects.parquet")) == 3
