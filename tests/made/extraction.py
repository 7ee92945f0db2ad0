"""A small extraction: its clips, settings, rows and counts."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import soundfile

from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.resources import ExtractionResources

NUM_CLIPS = 24


def small_corpus(corpus: Path, folder: Path) -> Path:
    """Clips of RAVDESS's names and different lengths."""
    for index, path in enumerate(sorted(corpus.rglob("*.wav"))[::7][:NUM_CLIPS]):
        waveform, rate = soundfile.read(path)
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        soundfile.write(
            folder / path.parent.name / path.name, waveform[: len(waveform) - 997 * (index % 7)], rate
        )
    return folder


def extract_config(tmp_path: Path, audio: Path | str, **changes) -> ExtractConfig:
    """The settings of a small extraction on two workers into a DuckDB file."""
    base = ExtractConfig(
        run=str(tmp_path / "run"),
        data=DataConfig(uri=str(audio)),
        resources=ExtractionResources(num_workers=2, clips_per_part=5),
    )
    return replace(base, **changes)


def rows_of(config: ExtractConfig) -> list[dict]:
    """The rows of a DuckDB table, in order."""
    path = Path(config.run) / "embeddings.db"
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.sql(
            "FROM embeddings ORDER BY clip_id, model, pooling, layer, start_s"
        ).to_arrow_table()
    return rows.to_pylist()


def vectors_of(rows: list[dict]) -> dict[tuple, np.ndarray]:
    """The vector of each clip, layer and start."""
    return {(r["clip_id"], r["layer"], r["start_s"]): np.array(r["embedding"]) for r in rows}


def accounted(metrics: dict) -> tuple[int, int, int]:
    """How many clips were written, were in the table before, and were rejected; their sum is checked."""
    assert metrics["num_clips"] == metrics["written"] + metrics["in_table"] + metrics["rejected"]
    return metrics["written"], metrics["in_table"], metrics["rejected"]
