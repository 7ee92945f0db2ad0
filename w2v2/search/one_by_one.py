"""The search in this process: one trial after another and fold after fold, as under Ray Tune with one worker."""

import logging
from collections.abc import Callable, Sequence

from w2v2.errors import ResumableError, UserError
from w2v2.search.final_trainings import Training
from w2v2.search.fold_reports import FoldReports
from w2v2.search.fold_store import FoldStore
from w2v2.search.space import settings_of_trial
from w2v2.search.study import Proposal, Study
from w2v2.search.trial import SearchPlan, score_here
from w2v2.storage.files import StorageError
from w2v2.training.fold_result import DivergenceError, FoldResult
from w2v2.wording import counted

logger = logging.getLogger(__name__)


def search_one_by_one(plan: SearchPlan, study: Study) -> None:
    """Run trials until the study has them all; continues a search that was stopped."""
    num_trials = plan.config.search.num_trials
    logger.info("search: %s of %d folds, one after the other", counted(num_trials, "trials"), plan.num_folds)
    reports, fold_store = FoldReports(plan, study, at_once=1), plan.fold_store
    while (proposal := study.ask()) is not None:
        _run_trial(plan, proposal, reports, fold_store)


def train_one_by_one(trainings: Sequence[Training], *, on_done: Callable[[int, FoldResult], None]) -> None:
    """Run trainings in this process, one after the other, as final_trainings.Train describes."""
    for index, training in enumerate(trainings):
        on_done(index, score_here(training.settings, training.plan, training.fold))


def _run_trial(plan: SearchPlan, proposal: Proposal, reports: FoldReports, fold_store: FoldStore) -> None:
    """Score and report the folds of a trial in order; those in the fold store are read, not trained again."""
    settings = settings_of_trial(plan.config, proposal.params)
    for fold in range(plan.num_folds):
        recorded = fold_store.read(proposal.number, fold, params=proposal.params)
        try:
            score = recorded or score_here(settings, plan, fold)
        except (StorageError, ResumableError):
            raise  # nothing is wrong with the trial
        except (UserError, DivergenceError) as error:
            reports.fail(proposal.number, str(error))
            return
        if reports.add(proposal.number, score, params=proposal.params, trained=recorded is None):
            return
