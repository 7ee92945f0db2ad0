"""The search on Ray Tune: a trial hands out its folds in a fixed order, to workers that stay.

Workers only compute and report; the driver alone writes the study and the fold store, as each fold ends.
"""

import functools
import logging
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from w2v2.cluster import connection
from w2v2.cluster.ray_internals import ON_HEAD, starts_again, trial_error
from w2v2.cluster.worker_warnings import ReportedResult, collected, logged, show
from w2v2.errors import ResumableError, UserError
from w2v2.json_types import Json

import ray  # isort: skip
from ray import tune  # isort: skip
from ray.tune.schedulers import FIFOScheduler, TrialScheduler  # isort: skip
from ray.tune.search import Searcher  # isort: skip
from ray.tune.stopper import Stopper  # isort: skip

from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.search.final_trainings import Training
from w2v2.search.fold_reports import FoldReports
from w2v2.search.space import settings_of_trial
from w2v2.search.study import Study
from w2v2.search.trial import SearchPlan, score_here, score_together
from w2v2.storage.files import StorageError
from w2v2.training.fold_result import DivergenceError, FoldResult
from w2v2.wording import counted

logger = logging.getLogger(__name__)


class _Proposals(Searcher):
    """Hands out the study's trials; `_Judge` reports their results."""

    def __init__(self, study: Study, judge: "_Judge") -> None:
        super().__init__(metric=None, mode=None)
        self._study, self._judge = study, judge

    def suggest(self, trial_id: str) -> dict[str, Json] | str | None:  # type: ignore[override]  # Tune leaves FINISHED out
        if self._judge.stopped is not None:
            return Searcher.FINISHED
        try:
            proposal = self._study.ask()
        except UserError as error:
            self._judge.stopped = error
            return Searcher.FINISHED
        if proposal is None:
            return Searcher.FINISHED
        return {"number": proposal.number, "params": proposal.params}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass

    def save(self, checkpoint_path: str) -> None:
        pass  # the study's file is the record

    def restore(self, checkpoint_path: str) -> None:
        pass


class _EndsEarly(Stopper):
    """Ends the search once the judge says so."""

    def __init__(self, judge: "_Judge") -> None:
        self._judge = judge

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._judge.stopped is not None


class _Judge(FIFOScheduler):
    """Reports each fold as it arrives, and stops the trials that the pruner prunes.

    `stopped` is the error that ends the search although no trial failed: storage that does not answer, a cache that
    was deleted, another job that writes to the study. Trials stay unfinished, and the same command resumes them.
    """

    def __init__(self, reports: FoldReports) -> None:
        super().__init__()
        self._reports = reports
        self.stopped: UserError | None = None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        if self.stopped is not None:
            return TrialScheduler.STOP
        try:
            return self._decision(trial.config["number"], result, trial.config["params"])
        except UserError as error:
            self.stopped = error
            return TrialScheduler.STOP

    def _decision(self, number: int, result: dict, params: dict[str, Json]) -> str:
        show(result.get("warnings", ()))
        if "stops" in result:
            raise result["stops"]
        if "error" in result:
            self._reports.fail(number, result["error"])
            return TrialScheduler.CONTINUE
        prune = self._reports.add(number, result["fold_score"], params=params, trained=result["trained"])
        return TrialScheduler.STOP if prune else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        number, error = trial.config["number"], trial_error(trial)
        why = _why(error)
        if self.stopped is not None:
            logger.warning("trial %d ended with the search: %s", number, why)
        elif starts_again(trial):  # its spot machine was taken away; finished folds are in the fold store
            logger.warning("trial %d lost its worker and starts again: %s", number, why)
        else:
            try:
                self._reports.fail(number, why)
            except UserError as mistake:
                self.stopped = mistake


def search(plan: SearchPlan, study: Study) -> None:
    """Run trials until the study has them all; continues a search that was stopped."""
    if not ray.is_initialized():  # the features were prepared in this process
        connection.start()
    config, resources = plan.config.search, plan.config.resources
    workers = resources.num_workers
    fitting = connection.slots(cpus=resources.cpus_per_worker * workers, gpus=plan.gpus * workers)
    at_once = min(config.max_concurrent_trials or fitting, config.num_trials)
    # Fewer trials than workers: the others take the next folds of the same trials.
    num_ahead = max(1, fitting // at_once)
    logger.info(
        "search: %s of %d folds, %d at once", counted(config.num_trials, "trials"), plan.num_folds, at_once
    )
    # A trial only hands out its folds and waits: it runs on the head, which is no spot machine.
    judge = _Judge(FoldReports(plan, study, at_once=at_once))
    place = {"cpu": 0, **ON_HEAD}
    with tempfile.TemporaryDirectory(prefix="w2v2-tune-") as scratch:
        tuner = tune.Tuner(
            tune.with_resources(tune.with_parameters(run_trial, plan=plan, num_ahead=num_ahead), place),
            tune_config=tune.TuneConfig(
                num_samples=config.num_trials,
                max_concurrent_trials=at_once,
                search_alg=_Proposals(study, judge),
                scheduler=judge,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=scratch,
                verbose=0,
                stop=_EndsEarly(judge),
                failure_config=tune.FailureConfig(max_failures=3),
            ),
        )
        try:
            tuner.fit()
        except Exception as error:
            raise connection.user_error(error) or error from error
    if judge.stopped is not None:
        raise judge.stopped


def run_trial(config: dict[str, Any], *, plan: SearchPlan, num_ahead: int) -> None:
    """Score one trial fold by fold; folds in the fold store are read, not trained again.

    Up to num_ahead folds are under way at once, and are reported in their order. Errors that another try would not fix
    are reported; all others are raised, and Tune tries again.
    """
    with collected() as texts:

        def report(warnings: Iterable[str] = (), **values: object) -> None:
            tune.report({**values, "warnings": [*texts, *warnings]})
            texts.clear()

        _score_folds(config["number"], config["params"], plan, num_ahead, report)


def _score_folds(
    number: int, params: dict[str, Json], plan: SearchPlan, num_ahead: int, report: Callable[..., None]
) -> None:
    fold_store = plan.fold_store
    settings = settings_of_trial(plan.config, params)
    recorded = {fold: fold_store.read(number, fold, params=params) for fold in range(plan.num_folds)}
    finished = {fold: score for fold, score in recorded.items() if score is not None}
    todo = [fold for fold in range(plan.num_folds) if fold not in finished]
    shared = connection.shared(plan)  # once: with a million clips it has a hundred megabytes
    under_way: dict[int, Callable[[], ReportedResult[FoldResult]]] = {}
    for fold in range(plan.num_folds):
        for ahead in [f for f in todo if f >= fold][:num_ahead]:
            if ahead not in under_way:
                name = f"trial-{number}-fold-{ahead}"
                under_way[ahead] = _begin(settings, plan, shared, ahead, name=name)
        try:
            reported = (
                ReportedResult(result=finished[fold], warnings=()) if fold in finished else under_way[fold]()
            )
        except (UserError, DivergenceError) as error:
            mistake = connection.user_error(error)
            if isinstance(mistake, StorageError | ResumableError):
                report(stops=mistake)
            else:
                report(error=_why(error))
            return
        report(reported.warnings, fold_score=reported.result, trained=fold not in finished)


def _begin(
    settings: TuneFoldsConfig, plan: SearchPlan, shared: SearchPlan, fold: int, *, name: str
) -> Callable[[], ReportedResult[FoldResult]]:
    """Start a fold, as a task on a worker that has loaded the encoder or on several together; returns a function to wait for its score.

    Tasks, unlike Tune's actors, reuse running workers, so that imports and encoders are loaded once and not once per
    trial.
    """
    workers = plan.config.resources.num_workers
    if workers == 1:
        cpus = plan.config.resources.cpus_per_worker
        task = connection.task(score_here, cpus=cpus, gpus=plan.gpus, in_trial=True)
        reference: Any = task.remote(settings, shared, fold)
        return lambda: ray.get(reference)
    return functools.partial(_score_by_several, settings, plan, fold, name)


def _score_by_several(
    settings: TuneFoldsConfig, plan: SearchPlan, fold: int, name: str
) -> ReportedResult[FoldResult]:
    from w2v2.cluster.ddp import work_together

    with tempfile.TemporaryDirectory(prefix="w2v2-train-") as scratch:
        return work_together(
            functools.partial(score_together, settings, plan, fold),
            num_workers=plan.config.resources.num_workers,
            cpus=plan.config.resources.cpus_per_worker,
            gpus=plan.gpus,
            name=name,
            storage_path=scratch,
        )


def train_folds(trainings: Sequence[Training], *, on_done: Callable[[int, FoldResult], None]) -> None:
    """Run trainings on workers, as many at once as fit, as final_trainings.Train describes."""
    if not trainings:
        return
    plan = trainings[0].plan
    resources = plan.config.resources
    if resources.num_workers > 1:
        for index, training in enumerate(trainings):
            name = f"final-{training.plan.replicate}-fold-{training.fold}"
            on_done(index, logged(_score_by_several(training.settings, training.plan, training.fold, name)))
        return
    task = connection.task(score_here, cpus=resources.cpus_per_worker, gpus=plan.gpus)
    connection.map_tasks(
        lambda training: task.remote(training.settings, training.plan, training.fold),
        trainings,
        num_at_once=connection.slots(cpus=resources.cpus_per_worker, gpus=plan.gpus),
        on_done=on_done,
    )


def _why(error: BaseException | None) -> str:
    """One line on why a trial failed."""
    if error is None:
        return "unknown"
    mistake = connection.user_error(error)
    cause = mistake or getattr(error, "cause", None) or error
    kind = "" if isinstance(cause, UserError | DivergenceError) else f"{type(cause).__name__}: "
    return f"{kind}{' '.join(str(cause).split())[:500]}"
