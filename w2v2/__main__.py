"""`python -m w2v2` is the command `w2v2`."""

import sys

from w2v2.command import main

sys.exit(main())
