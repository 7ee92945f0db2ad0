"""Shared by all tests: quiet environments, a small corpus, one local Ray, a loopback bucket."""

import atexit
import functools
import gc
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import type_checks

if TYPE_CHECKING:
    from tests.cloud.gcs import FakeGcs

os.environ.update(
    {
        "RAY_AUTH_MODE": "disabled",
        # Jobs of the tests have a Ray of their own, also where another test or a person runs a cluster.
        "RAY_ADDRESS": "local",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "60",
        "HF_HUB_OFFLINE": "1",
    }
)
if os.environ.get("W2V2_TEST_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # what is checked bit for bit is checked on CPUs
# Compiled files are kept, also where a container's environment forbids it: every process of every Ray would compile anew.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if "PYTEST_XDIST_WORKER" in os.environ:
    # Threads that wait for each other's core cost more than they compute.
    os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"})

type_checks.install("w2v2")


@functools.cache
def _uses_ray(file: Path) -> bool:
    """Whether tests of a file share the long-lived Ray."""
    return "ray_session" in file.read_text()


NOT_QUICK = (
    "tests/jobs/",
    "tests/cluster/",
    "tests/benchmarks/",
    "tests/audio/test_descriptors.py::test_every_number",
    "tests/audio/test_quality.py",
    "tests/cloud/test_gcs.py::test_pyarrow",
    "tests/config/test_hostile_settings.py::test_a_hostile_value_for_every_field",
    "tests/data/corpora/test_corpora.py",
    "tests/data/corpora/test_demo.py",
    "tests/data/test_folds.py::test_folds_are_disjoint",
    "tests/evaluation/test_class_scores.py",
    "tests/evaluation/test_baseline_comparison.py::test_the_page",
    "tests/evaluation/test_comparison.py::test_a_given_best_run",
    "tests/evaluation/test_comparison.py::test_equal_runs",
    "tests/evaluation/test_details.py",
    "tests/evaluation/test_recognition.py::test_the_interval",
    "tests/evaluation/test_recording_quality.py::test_false_alarms",
    "tests/evaluation/test_recording_quality.py::test_scores_by_quality",
    "tests/evaluation/test_recording_quality.py::test_without_a_difference",
    "tests/evaluation/test_slices.py::test_without_a_gap",
    "tests/features/test_requests.py::test_no_flipped_bit",
    "tests/inference/test_encoder_step.py",
    "tests/models/test_architecture.py::test_jobs_end",
    "tests/models/test_beam_search.py",
    "tests/models/test_imports.py",
    "tests/models/test_malloc.py",
    "tests/models/test_spectrum_encoders.py",
    "tests/models/test_started_operations.py",
    "tests/reports/test_index_page.py",
    "tests/reports/test_model_page",
    "tests/reports/test_tables_at_hand.py",
    "tests/reports/test_tune_page",
    "tests/results/test_plan.py",
    "tests/search/test_final_trainings.py",
    "tests/search/test_head_search.py",
    "tests/training/test_on_gpu.py",
    "tests/search/test_learning_curve.py",
    "tests/search/test_study",
    "tests/search/test_transcript_scores.py::test_the_pruner",
    "tests/storage/test_gcs.py::test_reads_overlap",
    "tests/storage/test_run_directory.py::test_flipped_bits",
    "tests/tables/test_killed.py",
    "tests/tables/test_many_rows.py",
    "tests/tables/test_table.py",
    "tests/test_api.py",
    "tests/test_google_provider.py",
    "tests/test_process_end.py",
    "tests/test_start_up.py",
    "tests/training/test_beam_decoding.py",
    "tests/training/test_checkpoint.py",
    "tests/training/test_clusters.py::test_clusters_are_learned",
    "tests/training/test_ensembles.py",
    "tests/training/test_finetuning.py",
    "tests/training/test_options.py",
    "tests/training/test_stacked_heads.py",
    "tests/training/test_transcription.py",
)
"""Whole jobs, trainings, searches, tables and pages, several processes, drawn faults, simulations: not what a developer waits for at every save."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m quick`, files of which no test is quick are not imported."""
    if config.option.markexpr != "quick":
        return None
    node = collection_path.relative_to(config.rootpath).as_posix() + "/" * collection_path.is_dir()
    return node.startswith(NOT_QUICK) or None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """No garbage is looked for while all is imported, nor later in what was: both would take seconds."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
        # What stays frozen is not freed at exit, and nanobind would report all of DuckDB's objects as leaks.
        atexit.register(gc.unfreeze)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, so that no process of `-n 2` is left with it at the end; the rest is quick."""
    items.sort(key=lambda item: not _uses_ray(item.path))
    for item in items:
        needs_ray = "ray_session" in getattr(item, "fixturenames", ())
        if not (needs_ray or item.get_closest_marker("slow") or item.nodeid.startswith(NOT_QUICK)):
            item.add_marker("quick")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With `-n 2` one process has all files that share a Ray, as each start of one costs a minute."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "Ray" if _uses_ray(config.rootpath / file) else file

    config.option.loadscopereorder = False
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def logs_as_a_process_begins():
    """Our log's level and no filters on pytest's handlers: a job that a test runs as a command changes both for good."""
    logging.getLogger("w2v2").setLevel(logging.NOTSET)
    filters = {handler: list(handler.filters) for handler in logging.getLogger().handlers}
    yield
    logging.getLogger("w2v2").setLevel(logging.NOTSET)
    for handler, before in filters.items():
        handler.filters = before


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    """The built-in corpus's folder: 24 actors, 8 emotions, one statement, 192 clips."""
    from w2v2.data.corpora.demo import make_corpus

    return make_corpus(tmp_path_factory.mktemp("demo"), num_statements=1)


@pytest.fixture(scope="session")
def ray_storage():
    """The loopback Google Cloud Storage that the workers of `ray_session` know."""
    from tests.cloud.gcs import FakeGcs

    with FakeGcs() as server:
        yield server


@pytest.fixture(scope="session")
def ray_session(ray_storage):
    """One local Ray for all tests that need it."""
    from tests.cloud.gcs import gcs_environment
    from w2v2.cluster import connection
    from w2v2.cluster.ray_internals import fewer_processes

    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:  # what workers are started with later, too
        for name, value in gcs_environment(ray_storage).items():
            patch.setenv(name, value)
        with fewer_processes():  # as a job's own Ray
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="ERROR",
                # A worker that has imported torch is kept for the next job.
                _system_config={"num_workers_soft_limit": 8},
            )
    connection.start()
    yield ray
    ray.shutdown()


@pytest.fixture
def ray_bucket(ray_session, ray_storage, tmp_path, monkeypatch: pytest.MonkeyPatch):
    """A loopback Google Cloud Storage with a new bucket `name`, for this process and the workers of `ray_session`."""
    from tests.cloud.gcs import gcs_environment

    for name, value in gcs_environment(ray_storage).items():
        monkeypatch.setenv(name, value)
    bucket = tmp_path.name.replace("_", "-")
    ray_storage.create_bucket(bucket)
    return Bucket(server=ray_storage, name=bucket)


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """One bucket of a loopback Google Cloud Storage."""

    server: "FakeGcs"
    name: str

    def upload(self, folder: Path, prefix: str) -> str:
        """The gs:// uri that all files below a folder are now below."""
        for path in folder.rglob("*"):
            if path.is_file():
                self.server.put(self.name, f"{prefix}/{path.relative_to(folder)}", path.read_bytes())
        return f"gs://{self.name}/{prefix}"

    def names(self) -> list[str]:
        """The names of its objects."""
        return self.server.names(self.name)

    def get(self, name: str) -> bytes:
        """The content of an object."""
        return self.server.get(self.name, name)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    """A loopback Google Cloud Storage with the bucket 'speech'."""
    from tests.cloud.gcs import FakeGcs, gcs_environment

    with FakeGcs("speech") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        yield server
