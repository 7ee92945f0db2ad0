"""Ray is started or joined, and its errors are sentences."""

import socket

import pytest

from w2v2.cluster import connection
from w2v2.errors import UserError


def test_a_ray_that_does_not_start_is_started_again(monkeypatch):
    late = Exception("The current node timed out during startup. This could happen because ...")
    outcomes = [late, None]
    starts = []

    def init(**settings):
        starts.append(settings)
        if outcomes[len(starts) - 1]:
            raise outcomes[len(starts) - 1]

    monkeypatch.setattr(connection, "_started_here", False)  # as it was, after this test
    monkeypatch.setattr(connection.ray, "init", init)
    monkeypatch.setattr(connection.ray, "shutdown", lambda: None)
    connection._init(tries_left=3)
    assert len(starts) == 2
    outcomes[:], starts[:] = [late] * 3, []
    with pytest.raises(
        UserError, match=r"Ray did not start on this machine, 3 times: it is too busy.*--local true"
    ):
        connection._init(tries_left=3)
    outcomes[:], starts[:] = [RuntimeError("a bug")], []
    with pytest.raises(RuntimeError, match="a bug"):
        connection._init(tries_left=3)


def test_a_ray_of_this_job_starts_without_the_dashboard(monkeypatch):
    from ray._private import services

    usual, at_start = services.start_api_server, []
    monkeypatch.setattr(connection, "_started_here", False)
    monkeypatch.setattr(connection.ray, "init", lambda **settings: at_start.append(services.start_api_server))
    connection._init(tries_left=1)
    assert at_start[0] is not usual and at_start[0]() == ("", None)
    assert services.start_api_server is usual


def test_what_will_never_fit_on_this_machine_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(connection.capacity, "present", lambda: {"CPU": 4.0, "GPU": 1.0})
    monkeypatch.setattr(connection.capacity, "largest", lambda: {"CPU": 4.0, "GPU": 1.0})
    for started_here in (True, False):  # a cluster may grow
        monkeypatch.setattr(connection, "_started_here", started_here)
        for size in ({"cpus": 64, "gpus": 0}, {"cpus": 1, "gpus": 2}):
            if started_here:
                with pytest.raises(
                    UserError,
                    match=r"1 worker\(s\) of .* do not fit on this machine, which has 4 CPUs and 1 GPUs",
                ):
                    connection.slots(**size)
            else:
                assert connection.slots(**size) == 1
        connection.check_fits(num_workers=4, cpus=1, gpus=0.25)
    monkeypatch.setattr(connection, "_started_here", True)
    with pytest.raises(UserError, match=r"5 worker\(s\) of 1 CPUs each do not fit"):
        connection.check_fits(num_workers=5, cpus=1, gpus=0)


def test_a_cluster_that_does_not_answer_is_one_sentence(monkeypatch):
    def init(**settings):
        raise ConnectionError("Failed to connect to Ray cluster")

    monkeypatch.setattr(connection.ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    with pytest.raises(UserError, match=r"no Ray cluster answers at 10\.0\.0\.1:6379 .*unset RAY_ADDRESS"):
        connection._init(tries_left=3)


@pytest.mark.parametrize("alive", [True, False])
def test_a_cluster_that_was_killed_is_not_waited_for(tmp_path, monkeypatch, caplog, alive):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert connection._address() == "local"  # no cluster was started here
    (tmp_path / "ray").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{port}\n")
        if not alive:
            server.close()
        assert connection._address() == (None if alive else "local")
    assert (f"the cluster at 127.0.0.1:{port}, started on this machine, is gone" in caplog.text) != alive
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert connection._address() is None  # who names a cluster means that one
