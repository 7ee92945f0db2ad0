"""The warnings of a job and its workers, kept for metrics.json and the page."""

import contextlib
import logging
from collections.abc import Iterator

_texts: dict[str, None] = {}


class _Keeper(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        _texts[record.getMessage()] = None


@contextlib.contextmanager
def warnings_kept() -> Iterator[None]:
    """A block, such as a job, whose warnings `kept_warnings` returns; those of a block around it are left out."""
    keeper, package = _Keeper(logging.WARNING), logging.getLogger("w2v2")
    outer = dict(_texts)
    _texts.clear()
    package.addHandler(keeper)
    try:
        yield
    finally:
        package.removeHandler(keeper)
        _texts.clear()
        _texts.update(outer)


def kept_warnings() -> list[str]:
    """The texts of the warnings so far, each once, in order."""
    return list(_texts)
