"""A trial's folds: begun ahead, reported in their order, not trained again; no Ray needed."""

from types import SimpleNamespace

import pyarrow as pa
import pytest
import ray

from tests.made.fold_scores import fold_score
from w2v2.cluster import search
from w2v2.cluster.worker_warnings import ReportedResult
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.errors import ResumableError, UserError
from w2v2.kept_warnings import warnings_kept
from w2v2.search.fold_reports import FoldReports, seconds_left
from w2v2.search.fold_store import FoldStore
from w2v2.search.study import Study
from w2v2.search.trial import SearchPlan
from w2v2.storage.files import UnreachableError
from w2v2.training.fold_result import DivergenceError

NUMBER = 3


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs a trial of six folds, of which 1 and 4 are in the fold store; gives what it does, in order."""
    plan = SearchPlan(
        config=TuneFoldsConfig(), run=str(tmp_path), classes=("x",), keys={}, clips=pa.table({}), gpus=0.0
    )
    for fold in (1, 4):
        FoldStore(plan.run).write(NUMBER, fold_score(fold))

    def run(num_ahead: int, *, fails: int | None = None, error: Exception | None = None) -> list[str]:
        events: list[str] = []

        def begin(settings, plan, shared, fold, *, name):
            events.append(f"begin {fold}")

            def wait():
                if fold == fails:
                    raise error or DivergenceError("the training loss is nan")
                return ReportedResult(result=fold_score(fold), warnings=(f"fold {fold} is odd",))

            return wait

        def report(result):
            if "stops" in result:
                events.append(f"stops: {type(result['stops']).__name__}: {result['stops']}")
                return
            note = "" if result.get("trained") else " recorded"
            assert "error" in result or result["warnings"] == (
                [] if note else [f"fold {result['fold_score'].fold} is odd"]
            )
            events.append(result.get("error") or f"score {result['fold_score'].fold}{note}")

        monkeypatch.setattr(search.connection, "shared", lambda plan: plan)
        monkeypatch.setattr(search, "_begin", begin)
        monkeypatch.setattr(search.tune, "report", report)
        search.run_trial({"number": NUMBER, "params": {}}, plan=plan, num_ahead=num_ahead)
        return events

    return run


def test_one_at_a_time_begins_each_when_the_one_before_is_reported(run):
    assert run(1) == [
        "begin 0", "score 0", "begin 2", "score 1 recorded", "score 2", "begin 3", "score 3", "begin 5",
        "score 4 recorded", "score 5",
    ]  # fmt: skip


def test_several_are_under_way_and_reported_in_their_order(run):
    events = run(3)
    assert events[:3] == ["begin 0", "begin 2", "begin 3"]
    assert [event for event in events if event.startswith("score")] == [
        "score 0", "score 1 recorded", "score 2", "score 3", "score 4 recorded", "score 5",
    ]  # fmt: skip
    assert events.index("begin 5") == events.index("score 0") + 1


def test_a_fold_that_diverges_ends_the_trial(run):
    assert run(1, fails=2) == [
        "begin 0",
        "score 0",
        "begin 2",
        "score 1 recorded",
        "the training loss is nan",
    ]


@pytest.mark.parametrize(
    "error",
    [UnreachableError("gs://x: no answer"), ResumableError("cache.uri lost 3 entries")],
    ids=["bucket", "cache"],
)
def test_a_storage_that_fails_is_no_property_of_the_trial(run, error):
    for raised in (error, ray.exceptions.RayTaskError("f", "Traceback", error).as_instanceof_cause()):
        assert run(1, fails=0, error=raised) == ["begin 0", f"stops: {type(error).__name__}: {error}"]


class RecordingStudy(Study):
    """A study that keeps what is reported to it."""

    def __init__(self) -> None:
        self.failures: list[int] = []

    def failed(self, number: int, why: str) -> None:
        self.failures.append(number)
        if number == 9:
            raise UserError("trial 9 was ended by another process")


@pytest.mark.parametrize(
    ("number", "result"), [(1, {"stops": UnreachableError("no answer")}), (9, {"error": "nan"})]
)
def test_what_ends_the_search_fails_no_trial(number, result):
    study = RecordingStudy()
    plan = SearchPlan(config=TuneFoldsConfig(), run="", classes=(), keys={}, clips=pa.table({}), gpus=0.0)
    judge = search._Judge(FoldReports(plan, study, at_once=1))
    trial = SimpleNamespace(config={"number": number, "params": {}})
    end = search._EndsEarly(judge)
    assert not end.stop_all()
    assert judge.on_trial_result(None, trial, result) == "STOP" and end.stop_all()
    assert judge.on_trial_result(None, trial, {"error": "another trial, ended with it"}) == "STOP"
    assert study.failures == [9][: number == 9]
    assert search._Proposals(study, judge).suggest("x") == "FINISHED"


def test_what_the_workers_of_a_trial_warn_of_is_logged_by_the_driver(caplog):
    plan = SearchPlan(config=TuneFoldsConfig(), run="", classes=(), keys={}, clips=pa.table({}), gpus=0.0)
    judge = search._Judge(FoldReports(plan, RecordingStudy(), at_once=1))
    trial = SimpleNamespace(config={"number": 1, "params": {}})
    with warnings_kept():
        for _ in range(2):
            judge.on_trial_result(None, trial, {"error": "nan", "warnings": ["the cache is slow"]})
    assert [r.getMessage() for r in caplog.records if "cache" in r.getMessage()] == [
        "worker: the cache is slow"
    ]


def test_the_last_trials_have_not_all_workers():
    pace_s = 2.0  # a fold every two seconds, by four trials at once: one trial takes eight for one
    assert seconds_left(24, pace_s, at_once=4, num_trials=4) == 48
    assert seconds_left(60, pace_s, at_once=4, num_trials=10) == 120
    assert seconds_left(6, pace_s, at_once=4, num_trials=1) == 6 * 8
