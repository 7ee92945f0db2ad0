#!/usr/bin/env python
"""`w2v2 export` as a script, for `ray job submit` and for a checkout that is not installed."""

import sys

from w2v2.jobs import export

if __name__ == "__main__":
    sys.exit(export.run(sys.argv[1:]))
