#!/usr/bin/env python
"""`w2v2 finetune` as a script, for `ray job submit` and for a checkout that is not installed."""

import sys

from w2v2.jobs import finetune

if __name__ == "__main__":
    sys.exit(finetune.run(sys.argv[1:]))
