"""The scores in a fold store, read one record at a time, so that tens of trials with a million clips fit in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from w2v2.errors import ResumableError
from w2v2.search.fold_store import FoldStore
from w2v2.search.summary import FoldSummary, summary_of
from w2v2.training.fold_result import FoldResult, FoldScore

HELD_CLIPS = 200_000
"""Clips, summed over all records, whose predictions stay in memory: further records are read again when they are needed."""


class RecordedScores(Mapping[tuple[int, int], FoldResult]):
    """The undamaged records of some trials by trial and fold, with the summary of each."""

    def __init__(
        self, fold_store: FoldStore, trials: Iterable[int], num_folds: int, *, classes: Sequence[str]
    ) -> None:
        self._fold_store = fold_store
        self.summaries: dict[tuple[int, int], FoldSummary] = {}
        self._held: dict[tuple[int, int], FoldResult] = {}
        num_clips = 0
        for place, score in fold_store.each(trials, num_folds):
            names = classes if isinstance(score, FoldScore) else ()
            self.summaries[place] = summary_of(score, names)
            num_clips += len(score.clip_ids)
            if num_clips <= HELD_CLIPS:
                self._held[place] = score

    def __getitem__(self, place: tuple[int, int]) -> FoldResult:
        if place in self._held or place not in self.summaries:
            return self._held[place]
        score = self._fold_store.read(*place)
        if score is None:
            raise ResumableError(
                f"the record of trial {place[0]}, fold {place[1]} was deleted from ledger/ or damaged while this job was reading it: run "
                "the same command again, which trains this fold again and resumes"
            )
        return score

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.summaries)

    def __len__(self) -> int:
        return len(self.summaries)
