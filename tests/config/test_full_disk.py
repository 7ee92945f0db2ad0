"""A full disk is one sentence, whichever library meets it and however another error reports it."""

import errno
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT
from w2v2.errors import ResumableError, UserError, unwritable_disk
from w2v2.storage.local import failure

LIBRARIES = {
    "safetensors": "import numpy, safetensors.numpy; safetensors.numpy.save_file({'a': numpy.ones(10**6)}, place)",
    "duckdb": "import duckdb; duckdb.connect(place).sql('CREATE TABLE t AS SELECT random() x FROM range(1000000)')",
    "duckdb's temporary files": """
import duckdb
limits = {"memory_limit": "20MB", "temp_directory": place, "max_temp_directory_size": "100KB"}
duckdb.connect(config=limits).sql("CREATE TEMP TABLE t AS SELECT random() x FROM range(10000000)")
""",
    "sqlite": """
import sqlite3
connection = sqlite3.connect(place)
connection.execute('PRAGMA max_page_count = 9')
connection.execute('CREATE TABLE t AS SELECT zeroblob(1000000) x')
""",
    "read-only sqlite": """
import sqlite3
connection = sqlite3.connect(place)
connection.execute('CREATE TABLE t (x)')
connection.execute('PRAGMA query_only = ON')
connection.execute('INSERT INTO t VALUES (1)')
""",
    "a process's text": """
from concurrent.futures import ProcessPoolExecutor
from tests.config.test_full_disk import fail_to_export
with ProcessPoolExecutor(1) as pool:
    pool.submit(fail_to_export, place).result()
""",
    "python": "open(place, 'wb').write(bytes(10**6))",
    "arrow": "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'a': [str(i) * 9 for i in range(10**5)]}), place)",
    "no scratch": """
import tempfile
tempfile.tempdir = None
tempfile._candidate_tempdir_list = lambda: ["/proc/nowhere"]
tempfile.TemporaryDirectory()
""",
    "wrapped": """
from w2v2.errors import UserError
try:
    open(place, 'wb').write(bytes(10**6))
except Exception as error:
    raise UserError('the model cannot be exported') from error
""",
}
JOB = """
import resource, sys
sys.dont_write_bytecode = True  # a compiled file cut off at the limit would break every later import of it
from dataclasses import dataclass
from w2v2.config.command_line import run_job
@dataclass(frozen=True)
class Config:
    seed: int = 0
place = sys.argv[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # no file may become larger
sys.exit(run_job(lambda config: exec(sys.argv[2], {"place": place}), Config, []))
"""


def fail_to_export(place: str) -> None:
    """As a worker fails that cannot write a file: of the error's causes, pickle keeps only their text."""
    try:
        Path(place).write_bytes(bytes(10**6))
    except OSError as error:
        raise UserError("the model cannot be exported") from error


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_that_cannot_write_end_a_job_in_a_sentence(library: str, tmp_path: Path) -> None:
    job = subprocess.run(
        [sys.executable, "-c", JOB, str(tmp_path / "file"), LIBRARIES[library]],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert job.returncode == 2, job.stderr
    line = job.stderr.strip()
    assert line.startswith("error: a disk is full or read-only (") and "\n" not in line
    assert "free it, or name another folder for temporary files than " in line
    assert line.endswith("by TMPDIR, and run the same command again")


def test_errors_that_are_not_of_a_full_disk_stay_as_they_are() -> None:
    for number, words in (
        (errno.ENOSPC, "No space left on device; free the"),
        (errno.EROFS, "Read-only file system; use"),
    ):
        reported = failure("/a/b", OSError(number, words.partition(";")[0]))
        assert isinstance(reported, ResumableError) and str(reported).startswith(f"/a/b: {words}")
    assert unwritable_disk(ValueError("x")) is None
    missing = UserError("no such file")
    missing.__cause__ = FileNotFoundError(errno.ENOENT, "No such file or directory", "/a")
    assert unwritable_disk(missing) is None


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/No space left on device.wav"),
        UserError("model '/runs/Read-only file system': no such folder"),
        RuntimeError("cannot open /data/Disk quota exceeded/x"),
        ValueError("a file named (os error 2)"),
        sqlite3.OperationalError("no such table: database or disk is full"),
    ],
)
def test_words_in_a_name_are_no_full_disk(error: Exception) -> None:
    assert unwritable_disk(error) is None


def test_a_worker_s_error_is_recognised_by_its_cause() -> None:
    class TaskError(Exception):
        """As Ray's: the worker's error is an attribute."""

        cause = OSError(errno.ENOSPC, "No space left on device", "/scratch/x")

    reported = unwritable_disk(TaskError("a task failed"))
    assert reported is not None and "/scratch/x" in str(reported)
