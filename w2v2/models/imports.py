"""torch and transformers, imported without garbage collection."""

import gc
import sys


def import_models() -> None:
    """Import torch, transformers and this package's encoders, as their first use would, in about a tenth less time.

    Imports make hundreds of thousands of objects that stay. The garbage collector would go through all of them again
    and again, in the imports, later, and for a second at the interpreter's exit. It is off meanwhile, takes what is
    garbage once, and leaves the others alone for good.
    """
    if "w2v2.models.pretrained" in sys.modules:
        return
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        import w2v2.models.pretrained  # noqa: F401
    finally:
        gc.collect(0)  # errors of imports hold the frames of their callers, and these what a job has open
        gc.freeze()
        if was_enabled:
            gc.enable()
