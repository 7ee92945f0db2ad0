"""`python -m w2v2` is the command `w2v2`."""

from w2v2.command import run

run()
