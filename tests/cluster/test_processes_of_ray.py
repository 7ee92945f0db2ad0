"""A Ray of one job starts the servers that the job uses, and workers when there is work for them."""

from pathlib import Path

from w2v2.cluster import connection
from w2v2.cluster.local_ray import child_processes, with_descendants

NEEDED, LEFT_OUT = ("gcs_server", "raylet"), ("dashboard.py", "monitor.py", "log_monitor.py")


def test_what_a_job_does_not_use_is_not_started(ray_session) -> None:
    assert connection.get(connection.task(abs, cpus=1, gpus=0).remote(-3)) == 3
    commands = [
        file.read_text().replace("\0", " ")
        for process in with_descendants(child_processes())
        if (file := Path(f"/proc/{process}/cmdline")).exists()
    ]
    assert all(any(name in command for command in commands) for name in NEEDED), commands
    assert not [command for command in commands for name in LEFT_OUT if name in command]
