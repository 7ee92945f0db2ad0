"""torch and transformers are imported without garbage collection, which continues afterwards, without what was imported."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from w2v2.models.imports import import_models

def num_collections():
    return sum(generation["collections"] for generation in gc.get_stats())

assert "torch" not in sys.modules
before = num_collections()
import_models()
assert "w2v2.models.encoder" in sys.modules
assert num_collections() - before < 20, gc.get_stats()
assert gc.isenabled()
assert gc.get_freeze_count() > 100_000 and len(gc.get_objects()) < 10_000, (gc.get_freeze_count(), len(gc.get_objects()))
gc.disable()
del sys.modules["w2v2.models.pretrained"]
import_models()
assert not gc.isenabled()
"""


@pytest.mark.slow
def test_imports_make_no_collections():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
