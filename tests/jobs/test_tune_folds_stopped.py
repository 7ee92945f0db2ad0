"""jobs/tune_folds.py, stopped and continued, on one worker or several."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests import ROOT
from tests.jobs.searches import make_config, table
from w2v2.config import command_line
from w2v2.config.data import FoldsConfig
from w2v2.config.model import EncoderConfig
from w2v2.config.resources import TrainingResources
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.jobs import tune_folds


@pytest.mark.slow
def test_trial_that_loses_its_worker_resumes_at_its_fold(corpus, tmp_path, ray_session):
    """As when a spot machine is taken away."""
    config = make_config(tmp_path, corpus, search=SearchConfig(num_trials=1))
    ledger, killed = tmp_path / "run" / "ledger", []

    def kill_worker_after_two_folds() -> None:
        while not killed:
            if ledger.exists() and len(list(ledger.glob("*.parquet"))) >= 2:
                workers = [
                    p
                    for p in psutil.process_iter(["cmdline"])
                    if "ImplicitFunc" in " ".join(p.info["cmdline"] or [])
                ]
                descendants = [p for p in workers if psutil.Process(os.getpid()) in p.parents()]
                killed.extend((path.name, path.read_bytes()) for path in ledger.glob("*.parquet"))
                for process in descendants:
                    process.kill()
            time.sleep(0.02)

    thread = threading.Thread(target=kill_worker_after_two_folds)
    thread.start()
    metrics = tune_folds.main(config)
    thread.join()
    assert metrics["selection"]["num_complete"] == 1 and metrics["selection"]["num_failed"] == 0
    for name, body in killed:
        assert (ledger / name).read_bytes() == body


@pytest.mark.slow
def test_two_workers_per_fold_score_as_one(corpus, tmp_path, ray_session):
    folds = FoldsConfig(kind="consecutive", num_folds=2)
    space = {"head.dropout": Dimension(choices=(0.0,))}  # dropout differs between workers
    losses = []
    for workers in (1, 2):
        search = SearchConfig(num_trials=1, space=space)
        config = make_config(
            tmp_path, corpus, run=str(tmp_path / f"run{workers}"), folds=folds, search=search
        )
        resources = TrainingResources(num_workers=workers)
        config = replace(config, encoder=EncoderConfig(train="head"), resources=resources)
        tune_folds.main(config)
        losses.append([row["loss"] for row in table(Path(config.run), "folds").to_pylist()])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def run_job(tmp_path: Path, config: TuneFoldsConfig, **environment: str) -> subprocess.Popen:
    path = tmp_path / "config.yaml"
    path.write_text(command_line.dump(config))
    command = [sys.executable, str(ROOT / "jobs" / "tune_folds.py"), "--config", str(path)]
    return subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)  # fmt: skip


def kill(process: subprocess.Popen) -> None:
    """The whole session at once, as when a machine is lost: Ray and its workers, too."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def press_ctrl_c(ledger: Path) -> threading.Thread:
    """A thread that does so once three folds are in ledger/: in the second trial."""

    def wait_and_press() -> None:
        while not ledger.exists() or len(list(ledger.glob("*.parquet"))) < 3:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=wait_and_press, daemon=True)
    thread.start()
    return thread


def one_at_a_time(tmp_path: Path, corpus: Path, name: str) -> TuneFoldsConfig:
    """A search that is the same each time: three trials over two folds, two of the trials proposed by TPE."""
    search = SearchConfig(num_trials=3, max_concurrent_trials=1, num_startup_trials=1, pruning="none")
    folds = FoldsConfig(kind="grouped", num_folds=2)
    return make_config(
        tmp_path,
        corpus,
        search=search,
        folds=folds,
        run=str(tmp_path / name),
        resources=TrainingResources(cpus_per_worker=2),
    )


def check_continued(config: TuneFoldsConfig, before: dict[str, bytes], whole: Path) -> None:
    """The run goes on where it was and ends as the one that nothing befell."""
    assert 3 <= len(before) < 6
    ledger = Path(config.run) / "ledger"
    for name, body in before.items():
        assert (ledger / name).read_bytes() == body, f"{name} was trained again"
    columns = ["clip_id", "fold", "target", "predicted", "prob_happy", "prob_angry"]
    assert table(config.run, "predictions").select(columns) == table(whole, "predictions").select(columns)
    trials = table(config.run, "trials").drop_columns(["seconds"])
    assert trials == table(whole, "trials").drop_columns(["seconds"])


@pytest.mark.slow
def test_stopped_and_run_again_it_ends_with_the_same_numbers(two_emotions, tmp_path, ray_session, caplog):
    caplog.set_level(logging.INFO, "w2v2")
    config = one_at_a_time(tmp_path, two_emotions, "stopped")
    ledger = tmp_path / "stopped" / "ledger"
    before_all = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process of `-n 2` ignores it
    thread = press_ctrl_c(ledger)
    with pytest.raises(KeyboardInterrupt):
        tune_folds.main(config)
    thread.join()
    signal.signal(signal.SIGINT, before_all)
    assert not (tmp_path / "stopped" / "metrics.json").exists()
    before = {path.name: path.read_bytes() for path in ledger.glob("*.parquet")}
    tune_folds.main(config)
    assert f"run: {config.run} (continued)" in caplog.text
    whole = tune_folds.main(replace(config, run=str(tmp_path / "whole")))
    assert whole["trunk"] == {"clip_forwards": 0, "num_clips": 48, "reused": 48}  # later runs reuse it
    assert "48 of them from the cache" in caplog.text
    check_continued(config, before, tmp_path / "whole")


@pytest.mark.slow
def test_killed_and_run_again_it_ends_with_the_same_numbers(two_emotions, tmp_path, ray_session):
    config = one_at_a_time(tmp_path, two_emotions, "killed")
    process = run_job(tmp_path, config)
    ledger = tmp_path / "killed" / "ledger"
    deadline = time.monotonic() + 240
    while not ledger.exists() or len(list(ledger.glob("*.parquet"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
        time.sleep(0.05)
    kill(process)
    before = {path.name: path.read_bytes() for path in ledger.glob("*.parquet")}
    tune_folds.main(config)
    tune_folds.main(replace(config, run=str(tmp_path / "whole")))
    check_continued(config, before, tmp_path / "whole")
