"""`ray job submit` of every job as on a cluster.

A head of its own, whose Python has what requirements.txt lists and nothing else, so neither w2v2 nor what is known of
an installed package; no git; the code sent along as a working directory; a token.
"""

import importlib.metadata
import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from tests import ROOT
from tests.made.ray_head import end_session, free_ports
from w2v2.audio import synthesis

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    # Not tmp_path: Ray puts sockets there, and their paths may have no more than 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="w2v2-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node(folder: Path) -> Path:
    """The commands of a node: a Python with the packages of requirements.txt alone, `ray`, and all of PATH but git."""
    venv.create(folder / "node", with_pip=False, symlinks=True)
    commands = folder / "node" / "bin"
    (packages,) = (folder / "node").glob("lib/python3*/site-packages")
    for name in re.findall(r"^([\w.-]+)==", (ROOT / "requirements.txt").read_text(), re.M):
        files = importlib.metadata.files(name) or []
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(importlib.metadata.distribution(name).locate_file(top))
    (commands / "ray").write_text(
        f"#!{commands / 'python'}\nimport sys\nfrom ray.scripts.scripts import main\nsys.exit(main())\n"
    )
    (commands / "ray").chmod(0o755)
    for place in os.environ["PATH"].split(":"):
        for command in Path(place).glob("*") if "venv" not in place else []:
            if command.name != "git" and not (commands / command.name).exists():
                (commands / command.name).symlink_to(command)
    return commands


@pytest.fixture(scope="module")
def environment(folder: Path, node: Path) -> dict[str, str]:
    """The variables that cluster.yaml sets on every node, and the user on the laptop."""
    (folder / "auth_token").write_text(secrets.token_hex(32))
    unknown = ("RAY_", "PYTHON", "VIRTUAL_ENV", "PYTEST")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unknown)}
    kept["PATH"] = str(node)  # the `python` of the entry point
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(folder / "auth_token")}
    return kept | token | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


@pytest.fixture(scope="module")
def head(folder: Path, node: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray head that runs while the tests of this file do."""
    gcs, dashboard, client, agent = free_ports(4)
    command = [
        *(
            str(node / "ray"),
            "start",
            "--head",
            "--block",
            "--num-cpus=2",
            "--num-gpus=0",
            f"--temp-dir={folder / 'ray'}",
        ),
        *(f"--port={gcs}", f"--ray-client-server-port={client}", f"--dashboard-agent-listen-port={agent}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}", "--object-store-memory=100000000"),
    ]
    with (folder / "head.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        address = f"http://127.0.0.1:{dashboard}"
        try:
            _wait_for(address, process, folder / "head.log")
            yield address
        finally:
            end_session(process)


@pytest.fixture(scope="module")
def checkout(folder: Path) -> Path:
    """A checkout with what a user's has: code, and things that git ignores."""
    checkout = folder / "checkout"
    for name in ("w2v2", "jobs"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", checkout)
    for ignored in (".venv/bin/python", "runs/old/metrics.json", ".git/HEAD", "w2v2/__pycache__/x.pyc"):
        (checkout / ignored).parent.mkdir(parents=True, exist_ok=True)
        (checkout / ignored).write_text("not to be sent")
    return checkout


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Path:
    """Six actors, three emotions, one clip each."""
    for actor in range(1, 7):
        for code in (1, 3, 4):
            emotion = synthesis.EMOTIONS[code - 1]
            path = folder / "corpus" / f"Actor_{actor:02d}" / f"03-01-{code:02d}-01-01-01-{actor:02d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, synthesis.synthesize(actor, emotion), synthesis.SAMPLE_RATE_HZ)
    return folder / "corpus"


def submit(address: str, checkout: Path, environment: dict[str, str], *job: str) -> tuple[int, str]:
    """The exit code and the output of `ray job submit`, called in the checkout."""
    done = subprocess.run(
        ["ray", "job", "submit", "--working-dir", ".", "--", "python", *job],
        executable=f"{environment['PATH']}/ray",
        cwd=checkout,
        env=environment | {"RAY_API_SERVER_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout


TINY = ("--training.num_epochs", "1", "--encoder.name", "tiny")


@pytest.fixture(scope="module")
def run_job(head: str, checkout: Path, environment: dict[str, str], corpus: Path, folder: Path):
    """Submits a job with the corpus, to end well; gives its run directory."""

    def run(name: str, *flags: str, data: Path | None = corpus, place: str = "") -> Path:
        run = folder / "runs" / (place or name)
        code, output = submit(
            *(head, checkout, environment, f"jobs/{name}.py", "--run", str(run), *flags),
            *(("--data.uri", str(data)) if data else ()),
        )
        assert code == 0, output
        assert "succeeded" in output
        assert "Traceback" not in output
        return run

    return run


def test_a_node_has_neither_w2v2_nor_git(environment: dict[str, str], folder: Path) -> None:
    program = "import importlib.metadata, shutil, torch, ray; print(shutil.which('git')); import w2v2"
    done = subprocess.run(
        [f"{environment['PATH']}/python", "-c", program],
        cwd=folder, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == "None\n"
    assert "No module named 'w2v2'" in done.stderr


def test_a_submitted_search_leaves_a_whole_run_directory(run_job, folder: Path) -> None:
    cached = ("--cache.uri", str(folder / "cache"), "--folds.kind", "grouped", "--folds.num_folds", "2")
    run_job("baseline", *cached, "--svm.features", "[energy]", "--svm.num_inner_folds", "3")
    run = run_job(
        "tune_folds", *cached, *TINY, "--search.num_trials", "1", "--baseline", str(folder / "runs/baseline")
    )
    assert {path.name for path in run.iterdir()} >= {
        *("config.yaml", "best.yaml", "metrics.json", "report.html", "study.db", "ledger"),
        *("manifest.parquet", "rejects.parquet", "trials.parquet", "folds.parquet", "predictions.parquet"),
    }
    assert json.loads((run / "metrics.json").read_text())["data"]["num_clips"] == 18


def test_a_submitted_extraction_fills_a_table(run_job) -> None:
    run = run_job("extract_embeddings", "--encoder.name", "tiny")
    assert json.loads((run / "metrics.json").read_text())["rows"]["inserted"] == 18


def test_a_model_is_trained_scored_and_used(run_job, folder: Path) -> None:
    model = str(run_job("finetune", "--cache.uri", str(folder / "cache"), *TINY) / "model")
    scored = json.loads((run_job("evaluate", "--model", model) / "metrics.json").read_text())
    assert scored["model"]["uri"] == model
    used = json.loads((run_job("predict", "--model", model) / "metrics.json").read_text())
    assert used["num_rows"] == 18


def test_an_encoder_is_pretrained_and_two_of_its_models_are_compared(run_job, folder: Path) -> None:
    once = ("--training.num_epochs", "1", "--optim.batch_s", "20")
    encoder = str(run_job("pretrain", *once) / "model")
    folds = ("--folds.kind", "grouped", "--folds.num_folds", "2", "--svm.num_inner_folds", "3")
    runs = [
        str(run_job("baseline", *folds, "--svm.features", f"[{features}]", place=features))
        for features in ("energy", "mfcc")
    ]
    run_job("extract_embeddings", "--encoder.name", encoder, place="pretrained")
    compared = run_job("compare", *runs, data=None)
    assert (compared / "report.html").exists()


def test_a_benchmark_runs(run_job) -> None:
    small = ("--encoder", "tiny", "--extract.num_clips", "2", "--rounds", "1")
    run = run_job("benchmark", "extract", *small, data=None)
    assert (run / "benchmark-extract.json").exists()


def test_only_code_is_sent(head: str, checkout: Path, environment: dict[str, str], folder: Path) -> None:
    program = "import w2v2, os; print('home:', w2v2.__path__[0], sorted(os.listdir()))"
    code, output = submit(head, checkout, environment, "-c", program)
    assert code == 0, output
    (line,) = [line for line in output.splitlines() if line.startswith("home:")]
    assert f"{folder}/ray/" in line  # not the installed package: what was sent is what runs
    assert line.endswith("['.gitignore', 'jobs', 'w2v2']")
    assert not list(
        (folder / "ray").glob("session_latest/runtime_resources/working_dir_files/*/w2v2/*/x.pyc")
    )


def test_a_typo_is_one_line_and_a_failed_job(head: str, checkout: Path, environment: dict[str, str]) -> None:
    code, output = submit(head, checkout, environment, "jobs/tune_folds.py", "--training.num_epoch", "3")
    assert code == 1
    errors = [line for line in output.splitlines() if line.startswith("error:")]
    assert len(set(errors)) == 1, output  # Ray repeats the last lines of a failed job
    assert "there is no field training.num_epoch, did you mean training.num_epochs" in errors[0]
    assert "Traceback" not in output


def test_an_error_names_the_command_as_it_was_submitted(
    head: str, checkout: Path, environment: dict[str, str]
) -> None:
    code, output = submit(head, checkout, environment, "jobs/compare.py", "runs/a")
    assert code == 1
    assert "as in ray job submit --working-dir . -- python jobs/compare.py runs/a runs/b" in output


def test_without_the_token_nothing_is_submitted(
    head: str, checkout: Path, environment: dict[str, str]
) -> None:
    code, output = submit(head, checkout, environment | {"RAY_AUTH_MODE": "disabled"}, "-c", "print('ran')")
    assert code == 1
    assert "token" in output
    assert "\nran" not in output


def _wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
        except urllib.error.HTTPError as error:
            error.close()
            return  # it answers, if only to ask for the token
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text())
