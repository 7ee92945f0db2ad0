"""The search of heads on frozen, pooled vectors: all heads side by side, in this process.

Neither Ray nor transformers is needed. Trials are proposed, pruned, kept and resumed as under Ray Tune; but all folds
of the running trials are computed before the first of them is reported.
"""

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from w2v2.config.model import EncoderConfig, OptimConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.data.targets import class_numbers
from w2v2.features.cache import FeatureCache
from w2v2.features.packed_vectors import in_memory, open_features
from w2v2.search.final_trainings import Training
from w2v2.search.fold_reports import FoldReports
from w2v2.search.fold_store import FoldStore
from w2v2.search.recorded_scores import HELD_CLIPS
from w2v2.search.side_by_side import SideBySide, divided, num_helpers
from w2v2.search.space import settings_of_trial
from w2v2.search.study import Proposal, Study
from w2v2.search.trial import SearchPlan
from w2v2.storage.mapped_tables import array_on_disk, release_memory, whole
from w2v2.training.fold_draws import Fold, FoldDraws, PooledClips, StackSettings
from w2v2.training.fold_result import DivergenceError, FoldResult, FoldScore
from w2v2.training.stacked_heads import StackedHeads
from w2v2.wording import counted

logger = logging.getLogger(__name__)

NUM_AT_ONCE = 6
"""Trials side by side unless search.max_concurrent_trials is given: with more, fewer results are known when a trial is chosen."""

MIN_STEPS_TO_DIVIDE = 2000
"""Fewer steps of training are over before another process has begun."""

Scores = list[list[FoldScore | DivergenceError]]
"""The score of each fold of each trial of a stack."""
TrialResult = dict[int, FoldScore | DivergenceError]


def search_heads(plan: SearchPlan, study: Study) -> None:
    """Run trials until the study has them all; continues a search that was stopped."""
    search = plan.config.search
    at_once = min(search.max_concurrent_trials or NUM_AT_ONCE, search.num_trials)
    logger.info(
        "search: %s of %d folds, %d side by side",
        counted(search.num_trials, "trials"),
        plan.num_folds,
        at_once,
    )
    torch.set_num_threads(1)  # steps this small are over before another thread has begun
    reports, fold_store = FoldReports(plan, study, at_once=at_once), plan.fold_store
    with contextlib.closing(_Heads(plan)) as heads:
        while proposals := _ask(study, at_once):
            recorded = _recorded(fold_store, proposals, plan.num_folds)
            trials = [
                (
                    settings_of_trial(plan.config, proposal.params),
                    [fold for fold in range(plan.num_folds) if (proposal.number, fold) not in recorded],
                )
                for proposal in proposals
            ]
            _report(proposals, heads.train(trials), recorded, reports, plan)


def train_heads(trainings: Sequence[Training], *, on_done: Callable[[int, FoldResult], None]) -> None:
    """Run trainings of heads, as final_trainings.Train describes; trainings of one plan and seed run side by side.

    All plans must have the same clips. Raises DivergenceError where a training diverges.
    """
    torch.set_num_threads(1)
    by_plan: dict[tuple[int, int], list[int]] = {}
    for index, training in enumerate(trainings):
        by_plan.setdefault((training.plan.replicate, id(training.plan.train_rows)), []).append(index)
    clips: dict[str, PooledClips] = {}
    for indices in by_plan.values():
        with contextlib.closing(_Heads(trainings[indices[0]].plan, clips)) as heads:
            results = heads.train([(trainings[i].settings, [trainings[i].fold]) for i in indices])
        scores = [of_training[trainings[i].fold] for i, of_training in zip(indices, results, strict=True)]
        for index, score in zip(indices, scores, strict=True):
            if not isinstance(score, DivergenceError):
                on_done(index, score)
        if diverged := [score for score in scores if isinstance(score, DivergenceError)]:
            raise diverged[0]


def _recorded(fold_store: FoldStore, proposals: Sequence[Proposal], num_folds: int) -> set[tuple[int, int]]:
    """(trial, fold) of each record that the fold store has of these trials."""
    params = {proposal.number: proposal.params for proposal in proposals}
    # Transcripts have no pooled vectors.
    recorded = fold_store.each(params, num_folds, params=params)
    return {place for place, score in recorded if isinstance(score, FoldScore)}


def _ask(study: Study, at_once: int) -> list[Proposal]:
    proposals: list[Proposal] = []
    while len(proposals) < at_once and (proposal := study.ask()) is not None:
        proposals.append(proposal)
    return proposals


def _report(
    proposals: Sequence[Proposal],
    results: Sequence[TrialResult],
    recorded: Collection[tuple[int, int]],
    reports: FoldReports,
    plan: SearchPlan,
) -> None:
    """Report fold after fold of all trials, as if they ran at the same time; folds after one that ends a trial are dropped."""
    ended: set[int] = set()
    for fold in range(plan.num_folds):
        for proposal, of_trial in zip(proposals, results, strict=True):
            number = proposal.number
            if number in ended:
                continue
            trained = (number, fold) not in recorded
            score = of_trial[fold] if trained else plan.fold_store.read(number, fold, params=proposal.params)
            assert score is not None, "the fold store had it when the trial was proposed"
            if isinstance(score, DivergenceError):
                reports.fail(number, str(score))
                ended.add(number)
            elif reports.add(number, score, params=proposal.params, trained=trained):
                ended.add(number)


@dataclass(frozen=True)
class _Stack:
    """Trials that share settings, and train side by side on these folds."""

    key: str
    """The folder of the vectors in the cache."""
    settings: StackSettings
    folds: tuple[int, ...]
    optims: Sequence[tuple[int, OptimConfig]]
    """The settings of each trial, with its place in the list of trials to train."""

    def parts(self, number: int) -> list["_Stack"]:
        """The stack divided into at most `number` stacks of about as many trials each."""
        number = min(number, len(self.optims))
        return [replace(self, optims=self.optims[at::number]) for at in range(number)]


class _Heads:
    """The clips' vectors of every encoder of the search, read when a trial first asks for them."""

    def __init__(self, plan: SearchPlan, clips: dict[str, PooledClips] | None = None) -> None:
        self._plan = plan
        self._clips = {} if clips is None else clips
        # Later trials with the same settings use the same draws again.
        num_kept = 4 * (plan.num_folds if plan.encoders_by_fold else 1)
        self._draws = functools.lru_cache(maxsize=num_kept)(self._new_draws)
        self._fold_of = np.asarray(plan.clips["fold"])
        self._side_by_side: SideBySide[_Stack, Scores] | None = None

    def train(self, trials: Sequence[tuple[TuneFoldsConfig, Sequence[int]]]) -> list[TrialResult]:
        """For each trial the scores of the folds asked for, by fold; trials that share settings train side by side."""
        stacks: dict[tuple[EncoderConfig, StackSettings, tuple[int, ...]], list[int]] = {}
        for index, (settings, folds) in enumerate(trials):
            shared = StackSettings.of(
                head=settings.head,
                training=settings.training,
                optim=settings.optim,
                mixes=settings.encoder.layer == "mix",
            )
            for encoder, folds_of_encoder in self._by_encoder(settings.encoder, folds).items():
                stacks.setdefault((encoder, shared, tuple(folds_of_encoder)), []).append(index)
        works = [
            _Stack(self._plan.keys[encoder], shared, folds, [(i, trials[i][0].optim) for i in indices])
            for (encoder, shared, folds), indices in stacks.items()
        ]
        results: list[TrialResult] = [{} for _ in trials]
        for work, made in self._made(works):
            for (index, _), scores in zip(work.optims, made, strict=True):
                results[index] |= dict(zip(work.folds, map(self._held, scores), strict=True))
        return results

    def close(self) -> None:
        """End the helpers, and let go of vectors and draws, which refer to each other."""
        if self._side_by_side is not None:
            self._side_by_side.close()
            self._side_by_side = None
        self._draws.cache_clear()
        self._clips = {}
        release_memory()

    def _held(self, score: FoldScore | DivergenceError) -> FoldScore | DivergenceError:
        """The score; with more than HELD_CLIPS clips its predictions are kept on the disk until the other folds are done."""
        if isinstance(score, DivergenceError) or len(self._fold_of) <= HELD_CLIPS:
            return score
        return replace(score, probabilities=array_on_disk(score.probabilities))

    def _made(self, stacks: Sequence["_Stack"]) -> Iterator[tuple["_Stack", Scores]]:
        """Each stack, or part of one, with the scores of its trials."""
        costs = [self._num_steps(stack) for stack in stacks]
        if self._side_by_side is None and sum(costs) >= MIN_STEPS_TO_DIVIDE and num_helpers():
            for key in set(self._plan.keys.values()):
                self._clips_of(key)  # helpers then have the vectors without reading or copying them
            self._side_by_side = SideBySide(self._train_stack, helpers=num_helpers())
        if self._side_by_side is None:
            yield from ((stack, self._train_stack(stack)) for stack in stacks)
            return
        number = self._side_by_side.num_shares
        # A step takes about as long for few trials as for many, so stacks are divided only if there are too few of them.
        parts = stacks if len(stacks) >= number else [part for s in stacks for part in s.parts(number)]
        shares = divided([self._num_steps(part) for part in parts], number)
        made = self._side_by_side.run([[parts[place] for place in share] for share in shares])
        for share, scores in zip(shares, made, strict=False):
            yield from (
                (parts[place], scores_of_part) for place, scores_of_part in zip(share, scores, strict=True)
            )

    def _num_steps(self, stack: "_Stack") -> float:
        """An estimate of a stack's cost: its steps, each weighted by the number of trials, as more trials take longer."""
        num_steps = stack.settings.training.num_epochs * len(self._fold_of) / stack.settings.optim.batch_size
        return num_steps * (1 + len(stack.optims) / 4)

    def _train_stack(self, stack: "_Stack") -> Scores:
        torch.set_num_threads(1)
        draws = self._draws(stack.key, stack.settings, stack.folds)
        return StackedHeads(draws, [optim for _, optim in stack.optims]).run()

    def _by_encoder(self, encoder: EncoderConfig, folds: Sequence[int]) -> dict[EncoderConfig, list[int]]:
        """The folds by the encoder of their vectors: one encoder for all folds, or one for each fold."""
        folds_of: dict[EncoderConfig, list[int]] = {}
        for fold in folds:
            folds_of.setdefault(self._plan.encoder_of(encoder, fold), []).append(fold)
        return folds_of

    def _fold(self, number: int) -> Fold:
        """The fold with the seed that `trial.score_together` gives it."""
        train, held_out = self._plan.rows_of(number)
        return Fold(number=number, train=train, held_out=held_out, seed=self._plan.seed_of(number))

    def _new_draws(self, key: str, settings: StackSettings, folds: tuple[int, ...]) -> FoldDraws:
        return FoldDraws(self._clips_of(key), [self._fold(fold) for fold in folds], settings)

    def _clips_of(self, key: str) -> PooledClips:
        if key not in self._clips:
            config, clips = self._plan.config, self._plan.clips
            vectors = open_features(
                FeatureCache(config.cache, key),
                clips["audio_digest"],
                num_at_once=config.data.num_readers,
            )
            self._clips[key] = PooledClips(
                vectors=torch.from_numpy(in_memory(vectors, np.float32)),
                lengths=np.asarray(clips["num_samples"]),
                targets=class_numbers(clips["label"], self._plan.classes),
                clip_ids=whole(clips["clip_id"]),
                num_classes=len(self._plan.classes),
            )
        return self._clips[key]
