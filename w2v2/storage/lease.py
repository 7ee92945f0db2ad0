"""A lease on a run directory: of two drivers, one continues and the other ends with a sentence on who holds the lease.

Local: a lock on `<run>/lease.json`, which the kernel releases when its process ends. gs://: the object
`<run>/lease.json`, made and renewed under generation preconditions; a lease that was not renewed for EXPIRY_S
because its holder died is taken over. The file names the holder.
"""

import contextlib
import errno
import fcntl
import functools
import getpass
import json
import logging
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from w2v2.errors import UserError
from w2v2.json_types import JsonObject
from w2v2.kept_warnings import warnings_kept
from w2v2.storage import files as storage
from w2v2.storage.local import failure

logger = logging.getLogger(__name__)

FILE = "lease.json"
EXPIRY_S = 60.0
RENEWAL_S = 15.0
_POLL_S = 2.0

_released: set[str] = set()
"""Tokens of leases that this process has given up; their objects may still exist, if the bucket did not answer then."""

C = TypeVar("C")
R = TypeVar("R")


@contextlib.contextmanager
def hold(run: str) -> Iterator[None]:
    """A block during which this process holds the run directory.

    Raises UserError where another process holds it. Ends this process if another one has taken over its lease in
    gs:// because it was not renewed for EXPIRY_S, as on a machine that slept.
    """
    uri = storage.join(run, FILE)
    with _hold_remote(uri) if storage.is_remote(run) else _hold_local(uri):
        yield


def exclusive(main: Callable[[C], R]) -> Callable[[C], R]:
    """The job's main function, which then holds config.run while it runs; with --plan it writes nothing and holds nothing."""

    @functools.wraps(main)
    def held(config: C) -> R:
        if getattr(config, "plan", False):
            return main(config)
        with hold(storage.expand(config.run)), warnings_kept():  # type: ignore[attr-defined]
            return main(config)

    return held


def _holder() -> JsonObject:
    """This process, as lease.json describes it; its token is unique."""
    return {
        "host": socket.gethostname(),
        "user": _user(),
        "process": os.getpid(),
        "machine": _machine(),
        "process_started": _process_started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "token": uuid.uuid4().hex,
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's number without a name
        return str(os.getuid())


def _refusal(uri: str, holder: JsonObject) -> UserError:
    who = (
        f"process {holder.get('process', '?')} of {holder.get('user', '?')} on {holder.get('host', '?')} "
        f"since {holder.get('since', '?')}"
    )
    return UserError(
        f"{uri.rpartition('/')[0]} is in use by {who}: let that job end (or stop it), or give this one a directory of "
        "its own with --run"
    )


# -- local


@contextlib.contextmanager
def _hold_local(uri: str) -> Iterator[None]:
    path = Path(uri)
    made = not storage.exists(str(path.parent))
    lock = _locked(path)
    try:
        yield
    finally:
        if lock is not None:
            path.unlink(missing_ok=True)  # before the lock is released: see _locked
            os.close(lock)
        if made:
            with contextlib.suppress(OSError):  # a job that wrote nothing leaves nothing
                path.parent.rmdir()


def _locked(path: Path) -> int | None:
    """The locked file, open; None on a file system without locks."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise failure(str(path), error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                logger.warning("%s: this file system has no locks: nothing keeps two jobs apart", path)
                return None
            raise _refusal(str(path), _parsed(path.read_bytes() if path.exists() else b"")) from error
        if _is_open_at(path, lock):
            with contextlib.suppress(
                OSError
            ):  # a full disk: the lock is held, but the file does not say who holds it
                os.ftruncate(lock, 0)
                os.pwrite(lock, json.dumps(_holder(), indent=1).encode(), 0)
            return lock
        os.close(lock)


def _is_open_at(path: Path, lock: int) -> bool:
    """Whether the open file still has that name: its last holder may have removed it before this process got the lock."""
    try:
        return os.stat(path).st_ino == os.fstat(lock).st_ino
    except FileNotFoundError:
        return False


def _parsed(body: bytes) -> JsonObject:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


# -- gs://


@dataclass(kw_only=True)
class _RemoteLease:
    """A lease that this process holds, renewed by a thread until it ends or is lost."""

    uri: str
    holder: JsonObject
    generation: int
    num_renewals: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def renew_until_ended(self) -> None:
        while not self.ended.wait(RENEWAL_S):
            try:
                if not self._renewed():
                    _end_process(_refusal(self.uri, _read_holder(self.uri)))
            except storage.StorageError as error:
                logger.warning("the lease of the run directory could not be renewed, trying again: %s", error)

    def _renewed(self) -> bool:
        self.num_renewals += 1
        generation = storage.write_version(self.uri, _body(self.holder, self.num_renewals), self.generation)
        if generation is None:
            return False
        self.generation = generation
        return True


@contextlib.contextmanager
def _hold_remote(uri: str) -> Iterator[None]:
    holder = _holder()
    lease = _RemoteLease(uri=uri, holder=holder, generation=_acquire(uri, holder))
    thread = threading.Thread(target=lease.renew_until_ended, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        lease.ended.set()
        thread.join()
        _released.add(holder["token"])
        with contextlib.suppress(storage.StorageError):  # it expires by itself
            storage.delete_version(uri, lease.generation)


def _read_holder(uri: str) -> JsonObject:
    try:
        return _parsed(storage.read_version(uri)[0])
    except storage.StorageError:
        return {}


def _end_process(error: UserError) -> None:
    """End this process at once with a sentence, as another process now writes into its run directory.

    Called from a thread while the main thread may wait for anything. SIGINT would not do, as background processes
    ignore it.
    """
    sys.stdout.flush()
    print(f"error: {error}", file=sys.stderr, flush=True)
    os._exit(2)


def _acquire(uri: str, holder: JsonObject) -> int:
    """The generation of the lease that this process took; waits where the holder of an old one may be dead."""
    while True:
        generation = storage.write_version(uri, _body(holder, 0), 0)
        if generation is not None:
            return generation
        try:
            body, current = storage.read_version(uri)
        except storage.NotFoundError:
            continue
        if not _is_abandoned(uri, body, current):
            raise _refusal(uri, _parsed(body))
        generation = storage.write_version(uri, _body(holder, 0), current)
        if generation is not None:
            logger.warning("the lease of %s was abandoned and is taken over", uri.rpartition("/")[0])
            return generation


def _is_abandoned(uri: str, body: bytes, generation: int) -> bool:
    """Whether the lease's holder has died: its process is gone from this machine, or it did not renew for EXPIRY_S."""
    holder = _parsed(body)
    alive = _is_alive(holder)
    if alive is not None:
        return not alive or holder.get("token") in _released
    logger.info("%s exists: waiting up to %.0f s to see whether its holder is alive", uri, EXPIRY_S)
    until = time.monotonic() + EXPIRY_S
    while time.monotonic() < until:
        time.sleep(_POLL_S)
        try:
            if storage.read_version(uri)[1] != generation:
                return False
        except storage.NotFoundError:
            return True
    return True


def _body(holder: JsonObject, num_renewals: int) -> bytes:
    return json.dumps({**holder, "num_renewals": num_renewals}, indent=1).encode()


# -- whether a process of this machine is alive


def _is_alive(holder: JsonObject) -> bool | None:
    """Whether the holder's process runs; None if it is on another machine or in another container."""
    if not _machine() or holder.get("machine") != _machine():
        return None
    started = holder.get("process_started")
    return bool(started) and _process_started(int(holder.get("process", 0))) == started


def _machine() -> str:
    """Identifies this machine since its last boot, and its namespace of process ids; '' where the system has no such names."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _process_started(pid: int) -> str:
    """When a process started, in ticks since the boot, which tells a reused process id; '' if it is gone."""
    try:
        # The name, in parentheses, may hold anything; the 20th field after it is the start.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
