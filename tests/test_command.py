"""The command `w2v2`: its list of jobs, names that are none, and the same jobs as the scripts in jobs/."""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tests import ROOT
from w2v2.command import JOBS, main, run


def test_the_command_is_installed():
    (script,) = [script for script in entry_points(group="console_scripts") if script.name == "w2v2"]
    assert script.load() is run


def test_the_process_ends_with_the_exit_code_of_its_job():
    ended = subprocess.run([sys.executable, "-m", "w2v2", "predcit"], capture_output=True, text=True)
    assert ended.returncode == 2 and "did you mean predict" in ended.stderr


@pytest.mark.parametrize("args", [[], ["--help"]])
def test_alone_it_prints_a_line_for_each_job(capsys, args):
    assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in JOBS:
        assert sum(line.startswith(f"  w2v2 {name} ") for line in lines) >= 1
    assert len(lines) < 20


def test_every_script_of_jobs_is_a_job_of_the_command():
    assert {path.stem.replace("_", "-") for path in (ROOT / "jobs").glob("*.py")} == set(JOBS)


@pytest.mark.parametrize(
    "name, guess",
    [
        ("tune-fold", "did you mean tune-folds"),
        ("extract", "the jobs are"),
        ("fine-tune", "did you mean finetune"),
    ],
)
def test_a_name_that_is_none_is_one_sentence(capsys, name, guess):
    assert main([name]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: there is no job {name}") and guess in error and error.count("\n") == 1


def test_a_jobs_name_may_be_written_as_its_file_is(capsys):
    assert main(["tune_folds", "--training.num_epoch", "3"]) == 2
    assert "there is no field training.num_epoch, did you mean training.num_epochs" in capsys.readouterr().err


def test_the_list_of_jobs_waits_for_nothing():
    code = "import sys; from w2v2.command import main; main([]); print([n for n in ('numpy', 'pyarrow', 'torch') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
