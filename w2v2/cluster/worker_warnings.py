"""Warnings of this package in workers, returned with the result and logged by the driver, each text once."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, overload

from w2v2.kept_warnings import kept_warnings
from w2v2.redaction import redacting

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class ReportedResult(Generic[R]):
    """The result of a function, and the warnings logged while it ran."""

    result: R
    warnings: tuple[str, ...]


class _Collector(logging.Handler):
    def __init__(self, texts: dict[str, None]) -> None:
        super().__init__(logging.WARNING)
        self._texts = texts

    def emit(self, record: logging.LogRecord) -> None:
        self._texts[record.getMessage()] = None


@contextlib.contextmanager
def collected() -> Iterator[dict[str, None]]:
    """A block of a worker that collects this package's warnings, each text once, in the yielded dict.

    Its log records and errors, which Ray writes to files of its own, are redacted.
    """
    texts: dict[str, None] = {}
    collector, package = _Collector(texts), logging.getLogger("w2v2")
    package.addHandler(collector)
    try:
        with redacting():
            yield texts
    finally:
        package.removeHandler(collector)


def reporting(function: Callable[P, R], *args: P.args, **settings: P.kwargs) -> ReportedResult[R]:
    """The result of the function, with the warnings of this package logged while it ran."""
    with collected() as texts:
        result = function(*args, **settings)
    return ReportedResult(result=result, warnings=tuple(texts))


@dataclass(frozen=True, kw_only=True)
class ReportingTask(Generic[P]):
    """A Ray task of `reporting` for one function."""

    remote_reporting: Any
    function: Callable[P, object]

    def remote(self, *args: P.args, **settings: P.kwargs) -> Any:
        """A reference to the worker's ReportedResult."""
        return self.remote_reporting.remote(self.function, *args, **settings)


def show(texts: Iterable[str]) -> None:
    """Log warnings of workers, each text once in a job."""
    for text in texts:
        if f"worker: {text}" not in kept_warnings():
            logger.warning("worker: %s", text)


@overload
def logged(reported: ReportedResult[R]) -> R: ...
@overload
def logged(reported: R) -> R: ...
def logged(reported: ReportedResult[R] | R) -> R:
    """The result, after its warnings have been logged."""
    if not isinstance(reported, ReportedResult):
        return reported
    show(reported.warnings)
    return reported.result
