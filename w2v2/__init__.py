"""Batch jobs for speech models, and what notebooks need of them: load_model, embed, predict, read_run."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from w2v2.api import Run, embed, load_model, predict, read_run

__all__ = ["Run", "embed", "load_model", "predict", "read_run"]


def __getattr__(name: str) -> Any:
    """A name of __all__, imported when it is first used: `import w2v2` itself imports nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'w2v2' has no attribute {name!r}")
    from w2v2 import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return __all__
