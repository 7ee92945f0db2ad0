"""The session that did the work stays in metrics.json, whatever the same command finds done later."""

import json

import pytest

from w2v2.results.sessions import MAX_LATER, with_sessions
from w2v2.storage import run_directory

WORK = {"job": "tune_folds", "seconds": 300.0, "trunk": {"clip_forwards": 192}, "pooled": {"uar": 0.5}}
AGAIN = {"job": "tune_folds", "seconds": 9.0, "trunk": {"clip_forwards": 0}, "pooled": {"uar": 0.6}}


@pytest.fixture(params=["local", "bucket"])
def run(request, tmp_path):
    if request.param == "local":
        return str(tmp_path)
    request.getfixturevalue("bucket")
    return "gs://speech/run"


def session(run, metrics, **options):
    written = with_sessions(run, metrics, **options)
    run_directory.write_json(run, "metrics", written)
    return written


def test_the_first_session_keeps_its_time_and_machine(run):
    first = session(run, WORK)
    assert first["seconds"] == 300.0 and first["made"]["num_cores"] >= 1 and "later_sessions" not in first
    second = session(run, AGAIN)
    assert second["made"] == first["made"] and second["seconds"] == 300.0
    assert second["trunk"] == {"clip_forwards": 0} and second["first_trunk"] == {"clip_forwards": 192}
    assert second["pooled"] == {"uar": 0.6}  # results are those of now
    third = session(run, AGAIN)
    assert [one["seconds"] for one in third["later_sessions"]] == [9.0, 9.0]
    assert third["made"] == first["made"] and third["first_trunk"] == {"clip_forwards": 192}


def test_work_on_something_else_begins_anew(tmp_path):
    first = session(
        str(tmp_path), {"job": "evaluate", "seconds": 5.0, "model": {"digest": "a"}}, same=("model",)
    )
    other = session(
        str(tmp_path), {"job": "evaluate", "seconds": 6.0, "model": {"digest": "b"}}, same=("model",)
    )
    assert first["seconds"] == 5.0 and other["seconds"] == 6.0 and "later_sessions" not in other


@pytest.mark.parametrize("text", ['{"job": "tune', "[]", json.dumps({"job": "tune_folds", "seconds": 1.0})])
def test_what_cannot_be_read_or_is_of_before_is_no_session(tmp_path, text):
    (tmp_path / "metrics.json").write_text(text)
    assert session(str(tmp_path), WORK)["seconds"] == 300.0


def test_a_command_given_for_ever_does_not_grow_the_file_for_ever(tmp_path):
    for _ in range(MAX_LATER + 5):
        metrics = session(str(tmp_path), AGAIN)
    assert len(metrics["later_sessions"]) == MAX_LATER
