"""torch and transformers are imported once, without garbage collection, which goes on afterwards."""

import subprocess
import sys

PROGRAM = """
import gc, sys

class Open:
    pass

def job():
    held = Open()
    import_models()
    return held

from w2v2.models.imports import import_models
assert "torch" not in sys.modules
collections = sum(generation["collections"] for generation in gc.get_stats())
job()
assert "w2v2.models.encoder" in sys.modules
assert sum(generation["collections"] for generation in gc.get_stats()) - collections < 20, gc.get_stats()
assert gc.isenabled() and gc.get_freeze_count() > 100_000
gc.unfreeze()
assert not [o for o in gc.get_objects() if type(o) is Open], "what the caller holds is kept alive"
gc.freeze()
num_frozen = gc.get_freeze_count()
import_models()
assert gc.get_freeze_count() == num_frozen
gc.disable()
import_models()
assert not gc.isenabled()
"""


def test_imports_make_no_collections_and_keep_nothing_of_the_caller():
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
