"""`<run>/study.db`: Optuna's SQLite file, opened, checked against `ledger/`, rebuilt from it, and copied to a bucket."""

import contextlib
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import optuna
import sqlalchemy.exc
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState

from w2v2.errors import ResumableError, UserError, sqlite_code
from w2v2.evaluation.direction import sign
from w2v2.search.trial_records import Record, TrialRecords, record_of, trial_of
from w2v2.storage import files as storage

logger = logging.getLogger(__name__)

STUDY_NAME = "tune_folds"
LOCK_WAIT_S = 60
"""How long another program, such as a dashboard, may keep the file locked."""

_DATABASE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error)


class StudyFile:
    """The file of one study; for a run in a bucket it is a copy on the local disk, written back by `save`."""

    def __init__(self, run: str, *, pruner: optuna.pruners.BasePruner, metric: str) -> None:
        self.uri = storage.join(run, "study.db")
        self._pruner = pruner
        self._direction: Literal["maximize", "minimize"] = "maximize" if sign(metric) > 0 else "minimize"
        self._path = Path(self.uri)
        self._generation = 0
        """Of the study in a bucket, as this process has read or written it last."""
        if storage.is_remote(self.uri):
            self._scratch = tempfile.TemporaryDirectory(prefix="w2v2-study-")  # as long as this lives
            self._path = Path(self._scratch.name) / "study.db"
            with contextlib.suppress(storage.NotFoundError):
                body, self._generation = storage.read_version(self.uri)
                self._path.write_bytes(body)
        optuna.logging.set_verbosity(optuna.logging.WARNING)

    def open(self, records: TrialRecords, space: Mapping[str, BaseDistribution]) -> optuna.Study:
        """The study, with the trials of the records; restored from them if its trials differ.

        Raises UserError where it can be neither read nor restored, and ResumableError where the file cannot be written.
        """
        existed = self._path.exists()
        if self._is_whole():
            try:
                study = self._create()
                given_out = [trial for trial in study.trials if trial.state != TrialState.WAITING]
                complete = records.complete(given_out, num_params=len(space))
                if _agree(given_out, complete, space):
                    return study
            except storage.StorageError:
                raise
            except Exception as error:  # a flipped bit may be anything to Optuna
                if self._is_no_damage(error):
                    raise self._failure(error) from error
                complete = records.read()
        else:
            complete = records.read()
        self._check_complete(complete, records)
        if complete:
            what = "damaged, or older than ledger/" if existed else "missing"
            logger.warning("%s is %s: it is rebuilt from ledger/", self.uri, what)
        return self._restored(complete.values(), space)

    def _is_whole(self) -> bool:
        """Whether SQLite finds no damage in the file; a missing file counts as undamaged."""
        if not self._path.exists():
            return True
        try:
            with contextlib.closing(sqlite3.connect(self._path, timeout=LOCK_WAIT_S)) as connection:
                return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        except sqlite3.DatabaseError as error:
            if self._is_no_damage(error):
                raise self._failure(error) from error
            return False

    def _is_no_damage(self, error: BaseException) -> bool:
        """Whether SQLite could not use the file for a reason outside of it: a lock, a full disk, or no permission."""
        code = sqlite_code(error)
        may_be_written = os.access(
            self._path, os.R_OK | os.W_OK
        )  # damage, too, may make SQLite say 'read-only'
        return code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_FULL) or (code is not None and not may_be_written)

    def _check_complete(self, complete: Mapping[int, Record], records: TrialRecords) -> None:
        """Raises UserError where study.db cannot be restored because a trial has no record."""
        lacking = [number for number in range(max(complete, default=-1) + 1) if number not in complete]
        if lacking or (not complete and records.has_folds()):
            raise UserError(
                f"{self.uri} is damaged and cannot be rebuilt: ledger/ has no complete record of trial "
                f"{lacking[0] if lacking else 0}; put a copy of study.db back, or start a new search in another directory "
                "with --run"
            )

    def _restored(self, complete: Iterable[Record], space: Mapping[str, BaseDistribution]) -> optuna.Study:
        for path in (self._path, Path(f"{self._path}-journal"), Path(f"{self._path}-wal")):
            path.unlink(missing_ok=True)
        with self.in_use():
            study = self._create()
            for record in complete:
                study.add_trial(trial_of(record, space))
            return study

    def _create(self) -> optuna.Study:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        database = optuna.storages.RDBStorage(
            f"sqlite:///{self._path}", engine_kwargs={"creator": lambda: _connection(self._path)}
        )
        return optuna.create_study(
            study_name=STUDY_NAME,
            storage=database,
            direction=self._direction,
            pruner=self._pruner,
            load_if_exists=True,
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """A block that raises ResumableError, which says what to do, where the file cannot be read or written."""
        try:
            yield
        except _DATABASE_ERRORS as error:
            raise self._failure(error) from error

    def _failure(self, error: BaseException) -> ResumableError:
        reason = str(error.__cause__ or error).partition("\n")[0]
        if _is_locked(error):
            return ResumableError(
                f"{self.uri} is locked by another program, such as optuna-dashboard or an SQL client: close it there and "
                "run the same command again"
            )
        return ResumableError(
            f"{self.uri} cannot be read or written ({reason}): see that its disk has space and that it may be written, and "
            "run the same command again, which rebuilds it from ledger/ where it is damaged"
        )

    def save(self) -> None:
        """Write the study of a run in a bucket back. Raises UserError if another process has written it meanwhile."""
        if not storage.is_remote(self.uri):
            return
        generation = storage.write_version(self.uri, self._path.read_bytes(), self._generation)
        if generation is None:
            raise UserError(
                f"{self.uri} was written by another process: another job works on this run; let that one end, or give "
                "this one a directory of its own with --run"
            )
        self._generation = generation


def _agree(
    trials: Sequence[FrozenTrial], complete: Mapping[int, Record], space: Mapping[str, BaseDistribution]
) -> bool:
    """Whether the trials are those of the records, and their distributions those of the space."""
    return [record_of(trial) for trial in trials] == list(complete.values()) and all(
        trial.distributions == {path: space[path] for path in trial.params} for trial in trials
    )


def _connection(path: Path) -> sqlite3.Connection:
    """A connection that does not wait until the disk has written: what a crash of the machine loses is rebuilt from `ledger/`."""
    connection = sqlite3.connect(path, timeout=LOCK_WAIT_S, check_same_thread=False)
    connection.execute("PRAGMA synchronous = OFF")
    return connection


def _is_locked(error: BaseException) -> bool:
    """Whether SQLite reports a lock that another connection holds; Optuna and SQLAlchemy have its error as their cause."""
    return sqlite_code(error) == sqlite3.SQLITE_BUSY
