"""Where and when a job runs."""

import datetime
import json
import subprocess

from w2v2.machine import commit, describe_run, gpu_names


def test_a_run_has_its_date_and_machine_as_json() -> None:
    description = describe_run()
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(description["date"])
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=1)
    assert description["num_cores"] >= 1 and description["memory_gb"] > 0 and description["cpu"]
    assert json.loads(json.dumps(description)) == description


def test_the_commit_is_that_of_the_checkout_and_says_what_was_changed(tmp_path) -> None:
    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert commit(tmp_path) == ""
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", ".")
    git("commit", "-qm", "first")
    git("tag", "-a", "v1", "-m", "a tag does not take the place of the commit")
    assert commit(tmp_path) == git("rev-parse", "HEAD")[:12]
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path) == git("rev-parse", "HEAD")[:12] + "-dirty"
    # A folder below a checkout is another project's, such as a virtual environment.
    (tmp_path / "venv").mkdir()
    assert commit(tmp_path / "venv") == ""


def test_gpus_are_read_from_the_driver(tmp_path) -> None:
    for i, name in enumerate(("NVIDIA T4", "NVIDIA L4")):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t\t 17\n")
    assert gpu_names(tmp_path) == ["NVIDIA L4", "NVIDIA T4"] and gpu_names(tmp_path / "none") == []
