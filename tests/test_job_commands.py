"""Messages name a job's command as the user typed it."""

import subprocess
import sys

import pytest

from tests import ROOT
from w2v2.job_commands import RAY_JOB_VARIABLE, command_of


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("/usr/local/bin/w2v2", "w2v2 extract-embeddings"),
        ("jobs/tune_folds.py", "python jobs/extract_embeddings.py"),
        ("./jobs/tune_folds.py", "python jobs/extract_embeddings.py"),
        ("/home/ann/my code/jobs/tune_folds.py", "python '/home/ann/my code/jobs/extract_embeddings.py'"),
        ("/venv/lib/w2v2/__main__.py", "python -m w2v2 extract-embeddings"),
        ("/venv/lib/ray/_private/workers/default_worker.py", "w2v2 extract-embeddings"),
        ("/venv/bin/pytest", "w2v2 extract-embeddings"),
        ("", "w2v2 extract-embeddings"),
    ],
)
def test_a_command_is_named_as_it_was_started(monkeypatch, program, command):
    monkeypatch.delenv(RAY_JOB_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "argv", [program, "--data", "demo"])
    assert command_of("extract_embeddings") == command
    monkeypatch.setenv(RAY_JOB_VARIABLE, "{}")
    assert command_of("extract_embeddings") == f"ray job submit --working-dir . -- {command}"


def test_a_script_run_inside_its_folder_is_named_so(monkeypatch):
    monkeypatch.delenv(RAY_JOB_VARIABLE, raising=False)
    monkeypatch.chdir(ROOT / "jobs")
    monkeypatch.setattr(sys, "argv", ["tune_folds.py"])
    assert command_of("finetune") == "python finetune.py"


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ([sys.executable, "jobs/compare.py", "runs/a"], "as in python jobs/compare.py runs/a runs/b"),
        ([sys.executable, "-m", "w2v2", "compare", "runs/a"], "as in python -m w2v2 compare runs/a runs/b"),
    ],
    ids=["script", "module"],
)
def test_the_error_of_a_job_names_the_command_that_was_given(command, named):
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 2 and named in ended.stderr
