"""Jobs that are killed on the way."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from w2v2.search.fold_store import FoldStore


@contextmanager
def killed_after(num_folds: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """A block that is killed when the fold store has so many more folds; trial and fold of each that it has written."""
    written: list[tuple[int, int]] = []
    real = FoldStore.write

    def write(self, trial, score, *, params):
        if len(written) == num_folds:
            raise KeyboardInterrupt
        written.append((trial, score.fold))
        return real(self, trial, score, params=params)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(FoldStore, "write", write)
        yield written
