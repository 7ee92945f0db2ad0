"""Ten digits that four people speak in five languages, out of Debian's packages: a real corpus, from files to a score."""

import csv
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.audio.recordings import debian_recordings
from w2v2.config.baseline import BaselineConfig, SvmConfig
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.jobs import baseline


@pytest.mark.slow
def test_digits_of_real_people(tmp_path: Path, ray_session) -> None:
    wavs = [
        path
        for path in debian_recordings(tmp_path)
        if path.parent.name == "digits" and path.stem in list("0123456789")
    ]
    assert len(wavs) == 50
    table = tmp_path / "x" / "tables" / "digits.csv"
    table.parent.mkdir()
    with table.open("w", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["file", "digit", "who"])
        for path in wavs:
            # en_US_f_Allison and es_MX_f_Allison are one person.
            rows.writerow(
                [f"../{path.relative_to(tmp_path / 'x')}", path.stem, path.parts[-3].rpartition("_")[2]]
            )
    config = BaselineConfig(
        run=str(tmp_path / "run"),
        data=DataConfig(uri=str(table), label_column="digit", speaker_column="who"),
        cache=CacheConfig(uri=str(tmp_path / "cache")),
        folds=FoldsConfig(kind="grouped", num_folds=4),
        svm=SvmConfig(features=("mfcc",), c=(1.0, 10.0), gamma=(0.0,), num_inner_folds=3),
    )
    baseline.main(config)
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["clips"] == {"given": 50, "used": 50, "rejected": {}, "passed_over": {}, "tolerated": {}}
    manifest = pq.read_table(tmp_path / "run" / "manifest.parquet").to_pylist()
    assert {row["speaker"] for row in manifest} == {"Allison", "June", "Carlo", "IvrvoiceRU"}
    assert len({(row["speaker"], row["fold"]) for row in manifest}) == 4
