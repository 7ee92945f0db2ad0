#!/usr/bin/env python
"""`w2v2 extract-embeddings` as a script, for `ray job submit` and for a checkout that is not installed."""

import sys

from w2v2.jobs import extract_embeddings
from w2v2.process_end import end_process

if __name__ == "__main__":
    end_process(extract_embeddings.run(sys.argv[1:]))
