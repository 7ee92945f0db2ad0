"""The study: results reported to Optuna, pruning between folds, and a killed search that resumes the same."""

import optuna
import pytest
from optuna.trial import TrialState

from w2v2.config.tune_folds import Dimension, SearchConfig
from w2v2.errors import UserError
from w2v2.search.space import distribution
from w2v2.search.study import Study
from w2v2.search.study_file import STUDY_NAME

SPACE = {
    "optim.learning_rate": distribution(
        "optim.learning_rate", Dimension(low=1e-5, high=1e-1, log=True), 1e-3
    ),
    "optim.batch_size": distribution("optim.batch_size", Dimension(choices=(8, 16)), 16),
}
DEFAULTS = {"optim.learning_rate": 1e-3, "optim.batch_size": 16}


def make(run, *, defaults=DEFAULTS, num_folds=0, **settings) -> Study:
    return Study(
        str(run),
        search=SearchConfig(**{"num_trials": 6, **settings}),
        space=SPACE,
        defaults=defaults,
        seed=4,
        num_folds=num_folds,
    )


def score(params) -> float:
    return 0.5 - abs(params["optim.learning_rate"] - 0.01)


def run_all(study: Study, *, stop_after: int = 100) -> list[dict]:
    seen = []
    while len(seen) < stop_after and (proposal := study.ask()):
        seen.append(proposal.params)
        scores: list[float] = []
        for fold in range(6):
            scores.append(score(proposal.params) + 0.01 * fold)
            if study.report(proposal.number, scores, num_folds=6):
                study.pruned(proposal.number)
                break
        else:
            study.complete(proposal.number, scores)
    return seen


def load(run) -> optuna.Study:
    return optuna.load_study(study_name=STUDY_NAME, storage=f"sqlite:///{run}/study.db")


def test_the_values_the_user_wrote_are_tried_first(tmp_path):
    assert make(tmp_path).ask().params == DEFAULTS


def test_values_outside_the_space_are_not_tried_and_a_warning_names_them(tmp_path, caplog):
    study = make(tmp_path, defaults={"optim.learning_rate": 5.0, "optim.batch_size": 16})
    assert study.ask().params["optim.learning_rate"] <= 0.1
    assert "lie outside search.space, so no trial has them" in caplog.text


def test_as_many_trials_as_asked_for_over_all_runs(tmp_path):
    assert len(run_all(make(tmp_path), stop_after=4)) == 4
    assert len(run_all(make(tmp_path))) == 2
    assert len(run_all(make(tmp_path))) == 0
    assert len(run_all(make(tmp_path, num_trials=9))) == 3


def test_interrupted_search_proposes_what_the_uninterrupted_one_did(tmp_path):
    whole = run_all(make(tmp_path / "a", pruning="none"))
    parts = run_all(make(tmp_path / "b", pruning="none"), stop_after=2)
    study = make(tmp_path / "b", pruning="none")
    killed = study.ask()  # given out, then its process dies
    study.report(killed.number, [0.1], num_folds=6)
    again = make(tmp_path / "b", pruning="none")
    resumed = again.ask()
    assert resumed == killed
    scores: list[float] = []
    for fold in range(6):
        scores.append(score(resumed.params) + 0.01 * fold)
        again.report(resumed.number, scores, num_folds=6)
    again.complete(resumed.number, scores)
    assert [*parts, resumed.params, *run_all(again)] == whole


def test_the_truth_is_reported_to_optuna(tmp_path):
    study = make(tmp_path, pruning="none")
    complete, pruned, failed = study.ask(), study.ask(), study.ask()
    study.report(complete.number, [0.2, 0.4], num_folds=2)
    study.complete(complete.number, [0.2, 0.4])
    study.report(pruned.number, [0.9], num_folds=2)
    study.pruned(pruned.number)
    study.failed(failed.number, "the loss is nan")
    trials = load(tmp_path).trials
    assert [t.state for t in trials] == [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL]
    assert trials[0].value == pytest.approx(0.3)
    assert trials[0].intermediate_values == {2: pytest.approx(0.3)}
    assert load(tmp_path).best_trial.number == complete.number  # 0.9 after one of two folds does not win
    assert trials[2].user_attrs["error"] == "the loss is nan"


@pytest.mark.parametrize("pruning", ["asha", "median", "wilcoxon"])
def test_hopeless_trials_are_stopped_and_never_before_two_folds(tmp_path, pruning):
    study = make(tmp_path, pruning=pruning, num_trials=12)
    folds = []
    for trial in range(12):
        proposal, scores = study.ask(), []
        good = trial in (0, 1, 2, 8)
        for fold in range(6):
            scores.append((0.8 if good else 0.2) + 0.001 * trial + 0.002 * fold)
            if study.report(proposal.number, scores, num_folds=6):
                study.pruned(proposal.number)
                break
        else:
            study.complete(proposal.number, scores)
        folds.append(len(scores))
    assert folds[8] == 6
    assert min(folds) >= 2
    assert all(done < 6 for done in folds[9:])


def test_without_pruning_every_trial_has_all_folds(tmp_path):
    run_all(make(tmp_path, pruning="none"))
    assert {t.state for t in load(tmp_path).trials} == {TrialState.COMPLETE}


def test_study_lives_in_the_bucket(tmp_path, bucket):
    run_all(make("gs://speech/runs/a"), stop_after=2)
    assert len(run_all(make("gs://speech/runs/a"))) == 4
    (tmp_path / "study.db").write_bytes(bucket.get("speech", "runs/a/study.db"))
    assert len(load(tmp_path).trials) == 6


def test_search_finds_a_better_learning_rate_than_the_first(tmp_path):
    run_all(make(tmp_path, num_trials=30, pruning="none"))
    best = load(tmp_path).best_trial
    assert abs(best.params["optim.learning_rate"] - 0.01) < 0.005


def test_two_processes_on_one_run_are_reported(tmp_path):
    first = make(tmp_path)
    proposal = first.ask()
    second = make(tmp_path)  # takes the trial for one that a killed run left unfinished
    assert second.ask().number == proposal.number
    first.complete(proposal.number, [0.5] * 6)
    with pytest.raises(
        UserError, match=r"trial 0 was ended by another process: another job works on .*study\.db"
    ):
        second.complete(proposal.number, [0.5] * 6)
