"""study.db damaged, lost or locked: it is rebuilt from ledger/, and the trials that follow are the same."""

import os
import random
import resource
import shutil
import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import OperationalError

from tests.made.fold_scores import fold_score
from tests.search.test_study import make, score
from w2v2.errors import ResumableError, UserError
from w2v2.search import study_file
from w2v2.search.fold_store import FoldStore
from w2v2.search.study import Study
from w2v2.search.trial_records import record_of

NUM_TRIALS = 8
PRUNINGS = ("none", "asha", "median", "wilcoxon")


def trials_of(study: Study) -> list[dict]:
    return [record_of(trial) for trial in study.trials()]


def open_study(run: Path, pruning: str, *, num_folds: int = 0) -> Study:
    return make(run, pruning=pruning, num_trials=NUM_TRIALS, num_startup_trials=2, num_folds=num_folds)


def run_on(study: Study, *, num_steps: int = 10_000) -> int:
    """How many asks and reports there were, at most num_steps, from trials that may have folds already."""
    steps = 0
    while steps < num_steps and (proposal := study.ask()):
        steps += 1
        scores: list[float] = []
        for fold in range(6):
            if steps == num_steps:
                return steps
            steps += 1
            scores.append(score(proposal.params) + 0.01 * fold * (-1) ** proposal.number)
            if study.report(proposal.number, scores, num_folds=6):
                study.pruned(proposal.number)
                break
        else:
            study.complete(proposal.number, scores)
    return steps


def damage(path: Path, kind: str, rng: random.Random) -> None:
    body = bytearray(path.read_bytes())
    match kind:
        case "bit":
            at = rng.randrange(8 * len(body))
            body[at // 8] ^= 1 << at % 8
        case "cut":
            del body[rng.randrange(len(body)) :]
        case "zeros":
            at = rng.randrange(len(body) // 512) * 512
            body[at : at + 512] = bytes(512)
        case "gone":
            path.unlink()
            return
    path.write_bytes(body)


def check_same_trials(tmp_path: Path, pruning: str, kinds: list[str], seed: int) -> None:
    rng = random.Random(seed)
    undisturbed = open_study(tmp_path / "whole", pruning)
    num_steps = run_on(undisturbed)
    stopped = tmp_path / "stopped"
    run_on(open_study(stopped, pruning), num_steps=rng.randrange(2, num_steps))
    for number, kind in enumerate(kinds):
        run = tmp_path / f"damaged-{number}"
        shutil.copytree(stopped, run)
        damage(run / "study.db", kind, rng)
        study = open_study(run, pruning)
        run_on(study)
        assert trials_of(study) == trials_of(undisturbed), (pruning, kind, seed)


def test_the_trials_that_follow_are_the_same(tmp_path: Path) -> None:
    check_same_trials(tmp_path, "asha", ["bit", "cut", "gone"], seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_many_kinds_of_damage(seed: int, tmp_path: Path) -> None:
    kinds = ["bit"] * 12 + ["cut", "zeros", "gone"] * 3
    check_same_trials(tmp_path, PRUNINGS[seed % 4], kinds, seed=100 + seed)


def test_a_change_that_sqlite_does_not_see_is_seen(tmp_path: Path, caplog) -> None:
    study = make(tmp_path)
    run_on(study, num_steps=20)
    wanted = trials_of(study)
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute("UPDATE trial_params SET param_value = param_value * 1.001 WHERE param_id = 3")
    assert trials_of(make(tmp_path)) == wanted
    assert f"{tmp_path}/study.db is damaged, or older than ledger/: it is rebuilt from ledger/" in caplog.text


def test_a_damaged_record_is_written_again_from_the_study(tmp_path: Path) -> None:
    study = make(tmp_path)
    run_on(study, num_steps=20)
    path = tmp_path / "ledger" / "trial-00001.json"
    body = path.read_bytes()
    damage(path, "bit", random.Random(1))
    assert trials_of(make(tmp_path)) == trials_of(study)
    assert path.read_bytes() == body


def test_a_run_of_an_earlier_version_gets_records(tmp_path: Path) -> None:
    study = make(tmp_path)
    run_on(study, num_steps=20)
    wanted = trials_of(study)
    shutil.rmtree(tmp_path / "ledger")
    assert trials_of(make(tmp_path)) == wanted
    (tmp_path / "study.db").unlink()
    assert trials_of(make(tmp_path)) == wanted


def test_where_nothing_has_the_trials_the_study_is_refused(tmp_path: Path) -> None:
    run_on(make(tmp_path), num_steps=20)
    (tmp_path / "ledger" / "trial-00000.json").unlink()
    (tmp_path / "study.db").write_bytes(b"SQLite format 3\0 but no more")
    with pytest.raises(
        UserError,
        match=r"study\.db is damaged and cannot be rebuilt: ledger/ has no complete record of trial 0; put a copy",
    ):
        make(tmp_path)


def test_a_locked_study_is_one_sentence(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(study_file, "LOCK_WAIT_S", 0.1)
    study = make(tmp_path)
    proposal = study.ask()
    database = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    with pytest.raises(
        ResumableError, match=r"study\.db is locked by another program, such as optuna-dashboard"
    ):
        study.report(proposal.number, [0.5], num_folds=6)
    with pytest.raises(ResumableError, match="is locked by another program"):
        make(tmp_path)
    database.execute("ROLLBACK")
    again = make(tmp_path)
    assert again.ask() == proposal
    assert not again.report(proposal.number, [0.5], num_folds=6)


def test_a_name_with_the_words_of_a_lock_is_no_lock(tmp_path: Path) -> None:
    run = tmp_path / "database is locked"
    study = make(run)
    proposal = study.ask()
    with sqlite3.connect(run / "study.db") as database:
        database.execute("DROP TABLE trial_intermediate_values")
    with pytest.raises(
        ResumableError,
        match=r"study\.db cannot be read or written \(.*no such table: trial_intermediate_values",
    ):
        study.report(proposal.number, [0.5], num_folds=6)


@pytest.mark.parametrize(
    "code, may_be_written", [(sqlite3.SQLITE_FULL, True), (sqlite3.SQLITE_READONLY, False)]
)
def test_a_whole_study_on_a_disk_that_takes_no_more_is_not_taken_for_damaged(
    code: int, may_be_written: bool, tmp_path: Path, monkeypatch
) -> None:
    study = make(tmp_path)
    run_on(study, num_steps=20)
    wanted, body = trials_of(study), (tmp_path / "study.db").read_bytes()

    def refused(**settings: object) -> None:
        error = sqlite3.OperationalError("the words of SQLite")
        error.sqlite_errorcode = code
        raise StorageInternalError("Optuna's words") from error

    with monkeypatch.context() as patch:
        patch.setattr("optuna.create_study", refused)
        access = SimpleNamespace(R_OK=os.R_OK, W_OK=os.W_OK, access=lambda path, mode: may_be_written)
        patch.setattr(study_file, "os", access)
        with pytest.raises(
            ResumableError,
            match=r"study\.db cannot be read or written \(the words of SQLite\): see that its disk",
        ):
            make(tmp_path)
    assert (tmp_path / "study.db").read_bytes() == body
    assert trials_of(make(tmp_path)) == wanted


def test_locks_are_known_by_the_codes_of_sqlite(tmp_path: Path) -> None:
    """Of all its codes, the extended ones included, those of a lock that another connection holds."""
    codes = {name: getattr(sqlite3, name) for name in dir(sqlite3) if name.startswith("SQLITE_BUSY")}
    assert len(codes) == 4  # BUSY, BUSY_RECOVERY, BUSY_SNAPSHOT, BUSY_TIMEOUT
    for code in (*codes.values(), sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR_LOCK, sqlite3.SQLITE_CORRUPT):
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = code
        wrapped = StorageInternalError("Optuna's words")
        wrapped.__cause__ = OperationalError("UPDATE", {}, error)
        wrapped.__cause__.__cause__ = error
        assert study_file._is_locked(wrapped) == (code in codes.values()), code


@pytest.mark.slow
def test_a_full_disk_is_one_sentence_and_nothing_is_lost(tmp_path: Path) -> None:
    whole = trials_of(make_and_run(tmp_path / "whole"))
    study = make(tmp_path / "run", num_trials=24)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "run" / "study.db").stat().st_size, limits[1]))
    try:
        with pytest.raises(
            ResumableError, match=r"study\.db cannot be read or written .*see that its disk has"
        ):
            run_on(study)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    again = make(tmp_path / "run", num_trials=24)
    run_on(again)
    assert trials_of(again) == whole


def make_and_run(run: Path) -> Study:
    study = make(run, num_trials=24)
    run_on(study)
    return study


@pytest.mark.parametrize("pruning", ["none", "asha"])
def test_a_trial_that_lost_a_fold_is_continued_and_ends_the_same(
    pruning: str, tmp_path: Path, caplog
) -> None:
    study = open_study(tmp_path, pruning)
    run_on(study)
    wanted, ended = trials_of(study), {trial.number: trial for trial in study.trials()}
    fold_store = FoldStore(str(tmp_path))
    for trial in ended.values():
        for fold in range(len(trial.intermediate_values)):
            fold_store.write(trial.number, fold_score(fold), params=trial.params)
    lost = next(
        number for number, trial in ended.items() if len(trial.intermediate_values) < 6 or number == 3
    )
    path = tmp_path / "ledger" / f"trial-{lost:05d}-fold-01.parquet"
    damage(path, "bit", random.Random(0))
    again = open_study(tmp_path, pruning, num_folds=6)
    assert f"trial {lost}: the folds [1] are lost and are trained again" in caplog.text
    run_on(again)
    assert trials_of(again) == wanted
    fold_store.write(lost, fold_score(1), params=ended[lost].params)
    assert open_study(tmp_path, pruning, num_folds=6).ask() is None
