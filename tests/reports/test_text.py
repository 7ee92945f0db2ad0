"""Numbers, lists and paths in words."""

import shlex

import pytest

from w2v2.redaction import without_home
from w2v2.reports import text
from w2v2.wording import listed


def test_numbers_and_lists_in_words() -> None:
    assert text.percent_text(0.58349) == "58.3%" and text.percent_text(None) == "undefined"
    assert text.percent_text(None, why="no clip") == "undefined (no clip)"
    assert text.points_text(0.0211) == "+2.1" and text.points_text(None) == "undefined"
    assert text.score_text(0.12345) == "0.123" and text.interval_text([0.1, 0.25]) == "0.100 to 0.250"
    assert text.interval_text(None) == "undefined" and text.interval_text((0, 1), str) == "0 to 1"
    assert listed(["a", "b"], num_shown=2) == "a, b" and listed([]) == ""
    assert listed(["a", "b", "c"], num_shown=1) == "a and 2 more"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(7.25, "7.2 s"), (119.9, "119.9 s"), (204.0, "3.4 min"), (7560.0, "2.1 h"), (None, "undefined")],
)
def test_duration_takes_the_unit_that_reads_well(seconds: float | None, words: str) -> None:
    assert text.duration_text(seconds) == words


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/home/ann/runs/a", "~/runs/a"),
        ("run: '/home/ann'", "run: '~'"),
        ("/Users/ann/x, /home/bob/y", "~/x, ~/y"),
        ("gs://bucket/home/ann/x", "gs://bucket/home/ann/x"),
        ("/data/home/ann", "/data/home/ann"),
        ("/homes/ann", "/homes/ann"),
    ],
)
def test_home_directories_are_written_as_a_tilde(path: str, shown: str) -> None:
    assert without_home(path) == shown


def test_the_command_of_a_job_is_one_that_a_shell_understands(monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    command = text.job_command("tune_folds", "/home/ann/my runs/config.yaml")
    assert command == "w2v2 tune-folds --config ~/'my runs/config.yaml'"
    assert shlex.split(text.job_command("x", "/tmp/a b/config.yaml"))[-1] == "/tmp/a b/config.yaml"
