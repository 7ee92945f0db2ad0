"""torch and transformers, imported without garbage collection."""

import atexit
import gc
import sys


def import_models() -> None:
    """Import torch, transformers and this package's encoders, as their first use would, in about a seventh less time.

    Imports make hundreds of thousands of objects that stay; the garbage collector would go through them again and again,
    so it leaves them out until the interpreter ends.
    """
    if "w2v2.models.pretrained" in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import w2v2.models.pretrained  # noqa: F401

        gc.freeze()
        atexit.register(gc.unfreeze)
    finally:
        if was_enabled:
            gc.enable()
