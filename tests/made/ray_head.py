"""A Ray head as a process of its own, and the end of all that it started."""

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in sockets]
    for server in sockets:
        server.close()
    return ports


def end_session(process: subprocess.Popen) -> None:
    """End the head and everything it started, and nothing else: other Ray clusters may run here."""
    members = _session(process.pid)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=20)
    for pid in members & _session(process.pid):
        with contextlib.suppress(ProcessLookupError):  # it has ended by now
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=10)


def _session(leader: int) -> set[int]:
    processes = set()
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if int(fields[3]) == leader:
            processes.add(int(entry.parent.name))
    return processes
