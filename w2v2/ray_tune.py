"""The search on Ray Tune: a trial is one long-lived worker that runs its folds in a fixed order.

Workers only compute and report; the driver alone writes the study and the ledger, as each fold ends.
"""

import copy
import functools
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from w2v2 import ray_cluster
from w2v2.config import EncoderConfig, UserError
from w2v2.job_config import TuneFoldsConfig

from ray import cloudpickle, tune  # isort: skip
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # isort: skip
from ray.tune.search import Searcher  # isort: skip

from w2v2.clips import ClipSet
from w2v2.features import FeatureCache, MappedFeatures, localize
from w2v2.heads import Classifier
from w2v2.ledger import Ledger
from w2v2.ray_features import loaded_encoder
from w2v2.ray_train import train_fold
from w2v2.search import Study, with_params
from w2v2.summary import fold_metrics
from w2v2.training import Diverged, FoldScore, World, score_fold

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every trial needs: settings, clips in order, and where their features are."""

    config: TuneFoldsConfig
    run: str
    classes: tuple[str, ...]
    keys: dict[EncoderConfig, str]
    """The folder of the features of each encoder that a trial may ask for."""
    clips: pa.Table
    """clip_id, fold, label, audio_digest and num_samples of every clip."""
    gpus: float

    @property
    def num_folds(self) -> int:
        """Folds of a trial."""
        return self.config.folds.num_folds


class _Proposals(Searcher):
    """Hands out the study's trials; what becomes of them is `_Judge`'s to tell."""

    def __init__(self, study: Study) -> None:
        super().__init__(metric=None, mode=None)
        self._study = study

    def suggest(self, trial_id: str) -> Any:
        proposal = self._study.ask()
        if proposal is None:
            return Searcher.FINISHED
        return {"number": proposal.number, "params": proposal.params}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass  # the study's file is the record

    def restore(self, checkpoint_path: str) -> None:
        pass


class _Judge(FIFOScheduler):
    """Records each fold as it arrives, stops trials that the pruner gives up, and says how it goes."""

    def __init__(self, plan: Plan, study: Study, ledger: Ledger) -> None:
        super().__init__()
        self._plan, self._study, self._ledger = plan, study, ledger
        self._scores: dict[int, list[float]] = {}
        self._best = float("-inf")
        self._started = time.monotonic()
        self._trained = 0

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        number = trial.config["number"]
        if "error" in result:
            self._fail(number, result["error"])
            return TrialScheduler.CONTINUE
        score: FoldScore = result["fold_score"]
        scores = self._scores.setdefault(number, [])
        if score.fold < len(scores):  # a trial that was restarted after its worker died
            return TrialScheduler.CONTINUE
        if result["trained"]:
            self._ledger.write(number, score)
            self._trained += 1
        value = fold_metrics(score, self._plan.classes)[self._plan.config.search.metric]
        scores.append(0.0 if value is None else value)
        prune = self._study.report(number, scores, num_folds=self._plan.num_folds)
        self._say(number, scores, score, "pruned" if prune else "")
        if prune:
            self._study.pruned(number)
            return TrialScheduler.STOP
        if len(scores) == self._plan.num_folds:
            self._study.complete(number, scores)
        return TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        number, why = trial.config["number"], _why(_error(trial))
        if trial.should_recover():  # its machine was taken away, say; finished folds are in the ledger
            logger.warning("trial %d lost its worker and starts again: %s", number, why)
        else:
            self._fail(number, why)

    def _fail(self, number: int, why: str) -> None:
        logger.warning("trial %d failed: %s", number, why)
        self._study.failed(number, why)

    def _say(self, number: int, scores: list[float], score: FoldScore, verdict: str) -> None:
        mean = float(np.mean(scores))
        if len(scores) == self._plan.num_folds:
            self._best = max(self._best, mean)
        states = [t.state.name for t in self._study.study.trials]
        ended = sum(state in ("COMPLETE", "PRUNED", "FAIL") for state in states) + bool(verdict)
        metric = self._plan.config.search.metric
        best = f"{self._best:.3f}" if np.isfinite(self._best) else "-"
        elapsed = time.monotonic() - self._started
        logger.info(
            "trial %d fold %d/%d: %s %.3f, mean %.3f %s| best %s | %d of %d trials ended | %.1f s a fold, %s gone",
            number,
            len(scores),
            self._plan.num_folds,
            metric,
            scores[-1],
            mean,
            f"{verdict} " if verdict else "",
            best,
            ended,
            self._plan.config.search.num_trials,
            score.seconds,
            ray_cluster.clock(elapsed),
        )


def search(plan: Plan, study: Study) -> None:
    """Run trials until the study has them all; continues a search that was stopped."""
    config = plan.config.search
    multi = config.workers_per_fold > 1
    workers = config.workers_per_fold
    fitting = ray_cluster.slots(cpus=config.cpus_per_trial * workers, gpus=plan.gpus * workers)
    at_once = config.max_concurrent_trials or fitting
    resources = {"cpu": 0.01} if multi else {"cpu": config.cpus_per_trial, "gpu": plan.gpus}
    with tempfile.TemporaryDirectory(prefix="w2v2-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, plan=plan), resources),
            tune_config=tune.TuneConfig(
                num_samples=config.num_trials,
                max_concurrent_trials=at_once,
                search_alg=_Proposals(study),
                scheduler=_Judge(plan, study, Ledger(plan.run)),
                reuse_actors=not multi,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=3),
            ),
        )
        tuner.fit()


def run_trial(config: dict[str, Any], *, plan: Plan) -> None:
    """Score one trial fold by fold; folds in the ledger are read, not trained again.

    What another try would not mend is reported; everything else is raised, and Tune tries again.
    """
    number = config["number"]
    ledger = Ledger(plan.run)
    settings = with_params(plan.config, config["params"])
    for fold in range(plan.num_folds):
        known = ledger.read(number, fold)
        try:
            score = known or _score(settings, plan, fold, name=f"trial-{number}-fold-{fold}")
        except (UserError, Diverged) as error:
            tune.report({"error": _why(error)})
            return
        tune.report({"fold_score": score, "trained": known is None})


def _score(settings: TuneFoldsConfig, plan: Plan, fold: int, *, name: str) -> FoldScore:
    workers = plan.config.search.workers_per_fold
    compute = functools.partial(_score_here, settings, plan, fold)
    if workers == 1:
        return compute(World())
    return train_fold(
        compute,
        num_workers=workers,
        cpus=plan.config.search.cpus_per_trial,
        gpus=plan.gpus,
        name=name,
        storage_path=tempfile.mkdtemp(prefix="w2v2-train-"),
    )


def _score_here(settings: TuneFoldsConfig, plan: Plan, fold: int, world: World) -> FoldScore:
    """Train and score a fold in this process, alone or as one of several."""
    import torch

    torch.set_num_threads(max(1, int(settings.search.cpus_per_trial)))
    encoder, _ = loaded_encoder(settings.encoder, settings.seed)
    clips = plan.clips
    held_out = np.flatnonzero(np.asarray(clips["fold"]) == fold)
    train = np.flatnonzero(np.asarray(clips["fold"]) != fold)
    seed = settings.seed * 1009 + fold
    torch.manual_seed(seed)
    return score_fold(
        Classifier(_fresh(encoder), settings.head, groups=[len(plan.classes)]),
        fold=fold,
        train=_clip_set(settings, plan, train),
        held_out=_clip_set(settings, plan, held_out),
        held_out_ids=clips["clip_id"].take(held_out).to_pylist(),
        optim=settings.optim,
        training=settings.training,
        seed=seed,
        world=world,
    )


def _fresh(encoder: Any) -> Any:
    """A copy whose trained weights are its own; frozen ones are shared."""
    return copy.deepcopy(encoder, {id(p): p for p in encoder.parameters() if not p.requires_grad})


def _clip_set(settings: TuneFoldsConfig, plan: Plan, rows: np.ndarray) -> ClipSet:
    clips = plan.clips.take(pa.array(rows))
    number = {name: index for index, name in enumerate(plan.classes)}
    digests = clips["audio_digest"].to_pylist()
    return ClipSet(
        features=_features(settings, plan.keys[settings.encoder], digests),
        lengths=np.asarray(clips["num_samples"]),
        targets=np.array([number[label] for label in clips["label"].to_pylist()]),
    )


def _features(settings: TuneFoldsConfig, key: str, digests: Sequence[str]) -> Any:
    cache = FeatureCache(settings.cache, key)
    localize(cache, digests, num_at_once=settings.data.num_readers)
    mapped = MappedFeatures(cache, digests)
    if key.startswith("pooled"):  # one vector a clip: opening files would cost more than training does
        return [np.array(mapped[index]) for index in range(len(mapped))]
    return mapped


def _error(trial: Any) -> BaseException | None:
    """What ended the trial; its own get_error looks where Tune has not yet copied it to."""
    if trial.pickled_error_file is None:
        return trial.get_error()
    with open(trial.pickled_error_file, "rb") as file:
        return cloudpickle.load(file)


def _why(error: BaseException | None) -> str:
    """One line on why a trial failed."""
    if error is None:
        return "unknown"
    mistake = ray_cluster.user_error(error)
    cause = mistake or getattr(error, "cause", None) or error
    kind = "" if isinstance(cause, UserError | Diverged) else f"{type(cause).__name__}: "
    return f"{kind}{' '.join(str(cause).split())[:500]}"
