"""What a worker warns of reaches the driver's log, once."""

import logging
import pickle
import uuid
import warnings
from pathlib import Path

import pytest

from w2v2.cluster.worker_warnings import logged, reporting
from w2v2.kept_warnings import warnings_kept


def double(number: int) -> int:
    logging.getLogger("w2v2.models.anything").warning("%d is odd", number % 2)
    logging.getLogger("another.library").warning("not ours")
    logging.getLogger("w2v2").info("not a warning")
    return 2 * number


def test_warnings_come_with_the_result_and_are_logged_once(caplog):
    reported = pickle.loads(pickle.dumps(reporting(double, 3)))
    assert reported.warnings == ("1 is odd",)
    caplog.clear()
    with warnings_kept():
        assert [logged(reported), logged(reported), logged(7)] == [6, 6, 7]
    assert [record.getMessage() for record in caplog.records] == ["worker: 1 is odd"]


def test_over_ray(ray_session, caplog):
    from w2v2.cluster import connection

    def work(number: int) -> int:
        logging.getLogger("w2v2.somewhere").warning("from afar")
        return number + 1

    results: dict[int, int] = {}
    task = connection.task(work, cpus=1, gpus=0)
    with warnings_kept():
        connection.map_tasks(task.remote, [1, 2, 3], num_at_once=2, on_done=results.__setitem__)
    assert results == {0: 2, 1: 3, 2: 4}
    assert [r.getMessage() for r in caplog.records if "afar" in r.getMessage()] == ["worker: from afar"]


def test_what_a_worker_writes_to_ray_s_own_logs_has_no_secrets(ray_session):
    from w2v2.cluster import connection

    secret = uuid.uuid4().hex

    def work(place: str) -> None:
        logging.getLogger("another.library").warning("GET %s", place)
        warnings.warn(place, stacklevel=1)
        raise RuntimeError(place)

    with pytest.raises(RuntimeError, match=r"https://host/a\?\*\*\*"):
        connection.get(connection.task(work, cpus=1, gpus=0).remote(f"https://host/a?token={secret}"))
    logs = Path(ray_session._private.worker.global_worker.node.get_logs_dir_path())
    texts = {path: path.read_text(errors="replace") for path in logs.rglob("*") if path.is_file()}
    assert any("GET https://host/a?***" in text for text in texts.values())
    assert [path for path, text in texts.items() if secret in text] == []
