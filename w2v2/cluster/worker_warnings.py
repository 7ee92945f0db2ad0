"""What our code warns of in a worker, brought back with the result and logged by the driver, each text once."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

logger = logging.getLogger(__name__)

_shown: set[str] = set()


@dataclass(frozen=True, kw_only=True)
class Reported:
    """The result of a function, and what was warned of meanwhile."""

    result: Any
    warnings: tuple[str, ...]


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        self.texts[record.getMessage()] = None


def reporting(function: Callable[..., Any], *args: Any, **settings: Any) -> Reported:
    """The result of the function, with the warnings of all that it calls in this package."""
    collector, package = _Collector(), logging.getLogger("w2v2")
    package.addHandler(collector)
    try:
        result = function(*args, **settings)
    finally:
        package.removeHandler(collector)
    return Reported(result=result, warnings=tuple(collector.texts))


@dataclass(frozen=True, kw_only=True)
class ReportingTask:
    """A Ray task of `reporting` for one function."""

    remote_reporting: Any
    function: Callable[..., Any]

    def remote(self, *args: Any, **settings: Any) -> Any:
        """The reference of what a worker will report."""
        return self.remote_reporting.remote(self.function, *args, **settings)


def logged(found: Any) -> Any:
    """The result without its warnings, which the log now has."""
    if not isinstance(found, Reported):
        return found
    for text in found.warnings:
        if text not in _shown:
            _shown.add(text)
            logger.warning("worker: %s", text)
    return found.result
