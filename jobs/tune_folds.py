#!/usr/bin/env python
"""`w2v2 tune-folds` as a script, for `ray job submit` and for a checkout that is not installed."""

import sys

from w2v2.jobs import tune_folds

if __name__ == "__main__":
    sys.exit(tune_folds.run(sys.argv[1:]))
