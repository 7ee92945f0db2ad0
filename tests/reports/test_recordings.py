"""Which recordings a page plays, from where, and what a corpus is called."""

from dataclasses import replace

import pyarrow as pa
import pytest

from tests.made.tune_run import write_run
from w2v2.reports.recordings import corpus_name, sounds, source_of
from w2v2.reports.run_files import TuneRun, read_tune_run


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ({"uri": "/data/ravdess", "layout": "auto", "vocal_channel": "speech"}, "RAVDESS speech"),
        ({"uri": "gs://b/actors", "layout": "ravdess", "vocal_channel": "both"}, "RAVDESS"),
        ({"uri": "/x/ravdess.csv", "layout": "auto"}, "ravdess.csv"),
        ({"uri": "/x/songs/", "layout": "deam"}, "DEAM"),
        ({"uri": "/x/clinic/", "layout": "clinic"}, "clinic"),
        ({"uri": "demo"}, "the built-in demo corpus"),
    ],
)
def test_the_corpus_has_the_name_of_its_layout_or_its_place(data, name) -> None:
    assert corpus_name(data) == name


@pytest.mark.parametrize(
    ("uri", "run", "times", "source"),
    [
        ("/data/a/x.wav", "/data/runs/r", (0.0, float("inf")), "../../a/x.wav"),
        ("/data/a/x.WAV", "/data/a", (1.5, 2.25), "./x.WAV#t=1.5,2.25"),
        ("/data/a/x.mp3", "/data/a", (3.0, None), "./x.mp3#t=3"),
        ("/data/50%/a#1?.flac", "/data/r", (0.0, None), "../50%25/a%231%3F.flac"),
        ("/data/a/12:30.ogg", "/data/a", (0.0, None), "./12:30.ogg"),
        ("/data/a/x.sph", "/data/a", (0.0, None), ""),
        ("gs://b/x.wav", "/data/a", (0.0, None), ""),
        ("/data/a/x.wav", "gs://b/r", (0.0, None), ""),
        ("/home/ann/data/x.wav", "/home/ann/runs/r", (0.0, None), "../../data/x.wav"),
        ("/home/ann/data/x.wav", "/srv/r", (0.0, None), ""),
    ],
)
def test_a_player_has_a_path_relative_to_the_page_that_shows_no_home(uri, run, times, source) -> None:
    assert source_of(uri, run, *times) == source


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> TuneRun:
    return read_tune_run(str(write_run(tmp_path_factory.mktemp("run"))))


def test_clinical_recordings_are_named_and_not_played(run: TuneRun) -> None:
    played = sounds(run, ["Actor_01/00.wav"])["Actor_01/00.wav"]
    assert played.uri == "/data/01/00.wav" and played.source.endswith("/data/01/00.wav")
    clinic = sounds(replace(run, config={"data": {"uri": "/data", "layout": "clinic"}}), ["Actor_01/00.wav"])
    assert clinic["Actor_01/00.wav"].uri == played.uri and not any(sound.source for sound in clinic.values())


def test_segments_are_played_alone(run: TuneRun) -> None:
    clips = run.manifest.slice(0, 1)
    clips = clips.set_column(clips.column_names.index("start_s"), "start_s", pa.array([0.5]))
    clips = clips.set_column(clips.column_names.index("end_s"), "end_s", pa.array([0.75]))
    (sound,) = sounds(replace(run, manifest=clips), clips["clip_id"].to_pylist()).values()
    assert sound.source.endswith("00.wav#t=0.5,0.75")
