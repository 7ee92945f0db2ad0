"""The end of a job's process."""

import atexit
import os
import sys
import threading
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End this process as sys.exit(code) does, without the second that freeing every object of torch takes.

    Threads are waited for, what was registered with atexit runs, and output is written, as at the end of
    multiprocessing's processes. Under a debugger or a profiler, which have work to do afterwards, it is sys.exit.
    """
    if sys.gettrace() or sys.getprofile():
        sys.exit(code)
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)
