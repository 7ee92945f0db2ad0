"""The run directory of an extraction goes in; the page and the maps are read back."""

import hashlib
import html
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from w2v2.reports import extraction_page
from w2v2.reports.extraction_page import planes, sample, write_extraction_report
from w2v2.reports.plots.vectors import has_umap, principal_plane, vector_map
from w2v2.storage.parquet import to_parquet

NUM_CLIPS, DIM = 30, 5


@pytest.fixture(autouse=True, scope="module")
def without_umap():
    """The maps of principal components alone, whatever is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extraction_page, "has_umap", lambda: False)
        yield


def vectors_of(num_clips: int = NUM_CLIPS) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(num_clips, DIM)).astype(np.float32)


def write_run(folder: Path, *, labels: bool = True, num_clips: int = NUM_CLIPS) -> Path:
    """Two parts of vectors of two layers each, of clips of five speakers; `labels` are three classes or none."""
    (folder / "parts").mkdir(parents=True)
    clips = [
        {
            "clip_id": f"{i:02}.wav",
            "uri": f"/data/{i:02}.wav",
            "label": f"class {i % 3}" if labels else "",
            "speaker": f"s{i % 5}",
            "duration_s": 1.0 + i / 10,
        }
        for i in range(num_clips)
    ]
    vectors = vectors_of(num_clips)
    for first in range(2 if num_clips else 0):
        rows = [
            {
                "clip_id": clips[i]["clip_id"],
                "layer": layer,
                "start_s": 0.0,
                "embedding": (vectors[i] * sign).tolist(),
            }
            for i in range(first, num_clips, 2)
            for layer, sign in (("first", -1), ("last", 1))
        ]
        data = to_parquet(pa.Table.from_pylist(rows))
        part = f"{hashlib.sha256(data).hexdigest()[:40]}-{len(rows)}.parquet"
        (folder / "parts" / part).write_bytes(data)
        for clip in clips[first::2]:
            clip["part"] = part
    schema = pa.schema([(name, pa.string()) for name in ("clip_id", "uri", "label", "speaker", "part")])
    schema = schema.insert(4, pa.field("duration_s", pa.float64()))
    pq.write_table(pa.Table.from_pylist(clips, schema=schema), folder / "manifest.parquet")
    rejects = [
        {"clip_id": "x", "uri": "/data/x", "reason": "not audio: <b>", "kind": "not audio", "detail": "<b>"}
    ]
    pq.write_table(pa.Table.from_pylist(rejects), folder / "rejects.parquet")
    metrics = {
        "job": "extract_embeddings", "table": "duckdb:///tmp/e.db#clips", "num_clips": num_clips + 5, "written": num_clips,
        "in_table": 4, "rejected": 1, "num_made": num_clips, "rows": {"inserted": num_clips, "unchanged": 4},
        "audio_hours": 0.5, "seconds": 60.0, "versions": {"torch": "2.14"},
        "encoder": {"name": "tiny", "digest": "9f3a", "layers": ["first", "last"], "pooling": "mean", "dim": DIM},
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "config.yaml").write_text(yaml.safe_dump({"data": {"uri": "/data/songs"}}))
    return folder


def text_of(page: str) -> str:
    body = re.sub(r"<svg.*?</svg>", "", page[page.index("<body>") :], flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("run") / "run")
    assert write_extraction_report(str(folder)) == str(folder / "report.html")
    return folder


def test_page_begins_with_how_many_clips_are_in_the_table_and_ends_with_how_it_was_made(folder) -> None:
    text = text_of((folder / "report.html").read_text())
    answer = "Embeddings of songs: tiny 34 of 35 clips have their vectors in duckdb:///tmp/e.db#clips"
    assert answer in text and "30 clips written by this run, 4 already in the table, 1 rejected." in text
    assert "clips/s 0.5" in text
    assert "not audio 1 x (not audio: <b>)" in text
    made = text[text.index("How it was made") :]
    assert "encoder tiny digest of its weights 9f3a layers first, last pooling mean wall time 60.0 s" in made
    assert f"w2v2 extract-embeddings --config {folder}/config.yaml" in made


def test_maps_are_coloured_by_label_and_by_speaker(folder) -> None:
    page = (folder / "report.html").read_text()
    assert set(re.findall(r'<figure id="(\w+)"', page)) == {"lengths", "map_label", "map_speaker"}
    assert {path.stem for path in (folder / "plots").iterdir()} == {"lengths", "map_label", "map_speaker"}
    words = re.findall(r">([^<]+)</text>", page)
    assert {"class 0", "class 2", "s0", "s4"} <= set(words)


def test_vectors_without_labels_are_coloured_by_speaker_alone(tmp_path: Path) -> None:
    write_extraction_report(str(write_run(tmp_path / "run", labels=False)))
    assert {path.stem for path in (tmp_path / "run" / "plots").iterdir()} == {"lengths", "map_speaker"}


def test_a_run_that_added_nothing_says_so(tmp_path: Path) -> None:
    page = Path(write_extraction_report(str(write_run(tmp_path / "run", num_clips=0)))).read_text()
    assert "This run has added no vectors, so there is no map of them." in page and "clips/s" not in page


def test_sample_has_one_layer_and_each_vector_its_own_clip(folder) -> None:
    clips = pq.read_table(folder / "manifest.parquet")
    vectors, rows = sample(clips, str(folder))
    places = [int(name.removesuffix(".wav")) for name in rows["clip_id"].to_pylist()]
    assert sorted(places) == list(range(NUM_CLIPS))
    np.testing.assert_array_equal(vectors, vectors_of()[places])


def test_principal_plane_keeps_the_most_variance_of_any_plane() -> None:
    vectors = vectors_of() * [9, 1, 5, 1, 1]
    places, shares = principal_plane(vectors)
    variances, axes = np.linalg.eigh(np.cov(vectors.T.astype(np.float64)))
    expected = (vectors - vectors.mean(0)) @ axes[:, [-1, -2]]
    np.testing.assert_allclose(np.abs(places), np.abs(expected), rtol=1e-4, atol=1e-4)
    assert shares == pytest.approx((variances / variances.sum())[[-1, -2]].tolist())


def test_umap_makes_a_second_map_where_it_is_installed(monkeypatch) -> None:
    assert list(planes(vectors_of())) == ["map"]
    if not has_umap():
        pytest.skip("umap-learn is not installed")
    monkeypatch.setattr(extraction_page, "has_umap", lambda: True)
    rng = np.random.default_rng(0)
    groups = np.arange(60) % 3
    vectors = rng.normal(size=(60, 8)) + 20 * np.eye(8)[groups]
    places, names = planes(vectors.astype(np.float32))["umap"]
    again, _ = planes(vectors.astype(np.float32))["umap"]
    np.testing.assert_array_equal(places, again)
    nearest = np.argsort(np.linalg.norm(places[:, None] - places, axis=2), axis=1)[:, 1]
    assert (groups[nearest] == groups).all() and names == ("UMAP 1", "UMAP 2")


@pytest.mark.parametrize(("num_groups", "names"), [(8, 8), (9, 7)])
def test_rare_groups_share_a_colour_only_where_there_are_more_than_colours(num_groups, names) -> None:
    groups = [f"g{min(i, num_groups - 1)}" for i in range(NUM_CLIPS)]
    places, _ = principal_plane(vectors_of())
    axes = vector_map(places, groups, axis_names=("a", "b")).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert len([word for word in words if word != "other"]) == names and ("other" in words) == (
        num_groups > 8
    )
    assert sum(len(dots.get_offsets()) for dots in axes.collections) == NUM_CLIPS


def test_the_page_of_a_run_of_an_earlier_version_is_the_same(folder, tmp_path) -> None:
    earlier = write_run(tmp_path / "run")
    place = earlier / "metrics.json"
    place.write_text(place.read_text().replace('"in_table": 4', '"there": 4'))
    assert json.loads(place.read_text())["there"] == 4
    write_extraction_report(str(earlier))
    assert text_of((earlier / "report.html").read_text()).replace(str(earlier), str(folder)) == text_of(
        (folder / "report.html").read_text()
    )
