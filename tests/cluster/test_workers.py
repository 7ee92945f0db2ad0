"""Where work is done: in this process for small work that no Ray is at hand for, else as the setting says."""

import pytest

from w2v2.cluster import connection, workers
from w2v2.cluster.workers import ThisProcess, num_threads, start_workers


@pytest.fixture
def no_ray(tmp_path, monkeypatch):
    """As on a machine where Ray was never started."""
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr(workers, "_is_connected", lambda: False)
    monkeypatch.setattr(workers, "cluster_record", lambda: tmp_path / "record")
    monkeypatch.setattr(workers, "BOOTSTRAP", tmp_path / "bootstrap.yaml")
    monkeypatch.setattr(connection, "start", lambda: None)


def is_here(**settings) -> bool:
    return isinstance(
        start_workers(**{"local": "auto", "num_clips": 90, "num_processes": 1, **settings}), ThisProcess
    )


def test_small_work_of_one_process_is_done_here(no_ray):
    assert is_here() and is_here(num_clips=workers.SMALL_NUM_CLIPS)
    assert not is_here(num_clips=workers.SMALL_NUM_CLIPS + 1)
    assert not is_here(num_processes=2) and not is_here(num_processes=0)


def test_the_setting_wins(no_ray):
    assert not is_here(local=False)
    assert is_here(local=True, num_clips=10_000_000, num_processes=4)


def test_a_ray_that_is_at_hand_is_used(no_ray, tmp_path, monkeypatch):
    (tmp_path / "record").write_text("127.0.0.1:6379")
    assert not is_here()
    (tmp_path / "record").unlink()
    assert is_here()
    (tmp_path / "bootstrap.yaml").touch()
    assert not is_here()
    (tmp_path / "bootstrap.yaml").unlink()
    monkeypatch.setattr(workers, "_is_connected", lambda: True)
    assert not is_here()
    monkeypatch.setattr(workers, "_is_connected", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    assert not is_here()


def test_this_process_has_the_threads_of_all_cores():
    assert num_threads(ThisProcess(), 1.0) >= 1
    assert num_threads(connection, 3.5) == 3 and num_threads(connection, 0.5) == 1
