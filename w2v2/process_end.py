"""The end of a job's process."""

import atexit
import os
import sys
import threading
from typing import NoReturn

_NUM_TOOLS = 6
"""The number of tool ids of sys.monitoring, for profilers, debuggers and the like."""


def end_process(code: int) -> NoReturn:
    """End this process as sys.exit(code) does, without the second that freeing every object of torch takes.

    Threads are waited for, what was registered with atexit runs, and output is written, as at the end of
    multiprocessing's processes. It is sys.exit under a debugger or a profiler, which have work to do afterwards, and
    where output cannot be written or the end is interrupted: Python then reports it, by exit code 120 for lost output.
    """
    if _is_watched():
        sys.exit(code)
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as where the process was started without it
                stream.flush()
    except (KeyboardInterrupt, OSError):
        sys.exit(code)
    os._exit(code)


def _is_watched() -> bool:
    """Whether a debugger or a profiler runs."""
    monitoring = getattr(sys, "monitoring", None)  # of Python 3.12 and later, whose cProfile uses it
    has_tool = monitoring is not None and any(map(monitoring.get_tool, range(_NUM_TOOLS)))
    return bool(sys.gettrace() or sys.getprofile() or has_tool)
