#!/usr/bin/env python
"""`w2v2 export` as a script, for `ray job submit` and for a checkout that is not installed."""

import sys

from w2v2.jobs import export
from w2v2.process_end import end_process

if __name__ == "__main__":
    end_process(export.run(sys.argv[1:]))
