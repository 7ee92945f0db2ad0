"""The type checker that pytest puts on w2v2, and where the checkout is."""

from pathlib import Path

from beartype import BeartypeConf, beartype

ROOT = Path(__file__).parent.parent
"""The top of the checkout."""

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""beartype, where an int may stand for a float (PEP 484)."""
