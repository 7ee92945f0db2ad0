"""Pictures that are not drawn."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from matplotlib.figure import Figure

from w2v2.reports.plots import style


def blank_pictures(patch: pytest.MonkeyPatch) -> None:
    """Write every figure as an empty picture: laying out and drawing them takes half of a small job's time."""

    def blank(figure: Figure, file: Any, **_: Any) -> None:
        file.write("<svg></svg>" if isinstance(file, io.StringIO) else b"png")

    patch.setattr(Figure, "savefig", blank)
    patch.setattr(style, "_lay_out", lambda figure: None)


@contextmanager
def no_pictures() -> Iterator[None]:
    """A block in which every figure is written as an empty picture."""
    with pytest.MonkeyPatch.context() as patch:
        blank_pictures(patch)
        yield
