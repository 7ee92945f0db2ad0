"""Shared by all tests: quiet environments, a small corpus, one local Ray, a loopback bucket."""

import os

import pytest

os.environ.update(
    {
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
        "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
        "RAY_DATA_EXECUTION_NO_PROGRESS_TIMEOUT_S": "60",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",  # what is checked bit for bit is checked on CPUs
    }
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory):
    """The built-in corpus's folder: 24 actors, 8 emotions, one statement, 192 clips."""
    from w2v2.demo import make_corpus

    return make_corpus(tmp_path_factory.mktemp("demo"), num_statements=1)


@pytest.fixture(scope="session")
def ray_session():
    """One local Ray for all tests that need it."""
    from w2v2 import ray_cluster

    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    ray_cluster.start()
    yield ray
    ray.shutdown()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch):
    """A loopback Google Cloud Storage with the bucket 'speech'."""
    from tests.cloud.gcs import FakeGcs, gcs_environment

    with FakeGcs("speech") as server:
        for name, value in gcs_environment(server).items():
            monkeypatch.setenv(name, value)
        yield server
