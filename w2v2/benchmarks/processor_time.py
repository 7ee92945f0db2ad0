"""Seconds that processors work for a command; of all measures, other work on the machine changes it least."""

import contextlib
import os
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

LOOK_EVERY_S = 0.2


class ProcessorTime:
    """A block whose processor seconds, user and system, are summed over this process and all below it.

    Descendants are sampled every LOOK_EVERY_S seconds, since nobody waits for some of them (Ray's workers); what one works
    after the last sample is lost. Without psutil only children that were waited for count.
    """

    seconds: float = 0.0

    def __enter__(self) -> "ProcessorTime":
        self._ended = threading.Event()
        self._below: dict[psutil.Process, float] = {}
        self._thread = threading.Thread(target=self._sample, args=self._earlier_descendants(), daemon=True)
        self._began, self._waited_for = time.process_time(), sum(os.times()[2:4])
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        below = max(sum(self._below.values()), sum(os.times()[2:4]) - self._waited_for)
        self.seconds = time.process_time() - self._began + below

    @staticmethod
    def _earlier_descendants() -> "tuple[psutil.Process | None, set[psutil.Process]]":
        """This process, and its descendants that do not count, as they ran before the block."""
        try:
            import psutil
        except ImportError:
            return None, set()
        this = psutil.Process()
        return this, set(this.children(recursive=True))

    def _sample(self, this: "psutil.Process | None", before: "set[psutil.Process]") -> None:
        while this and not self._ended.wait(LOOK_EVERY_S):
            for process in this.children(recursive=True):
                with contextlib.suppress(Exception):  # ended after it was listed
                    if process not in before:
                        spent = process.cpu_times()
                        self._below[process] = spent.user + spent.system
