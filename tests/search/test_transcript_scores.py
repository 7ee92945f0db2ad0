"""A search over transcripts: error rates are minimised everywhere, and add up as edits."""

import jiwer
import numpy as np
import optuna
import pyarrow as pa
import pytest

from w2v2.config.tune_folds import SearchConfig
from w2v2.evaluation.selection import trial_shares
from w2v2.search import estimate, summary
from w2v2.search.fold_store import decode, encode
from w2v2.search.study import Study
from w2v2.training.fold_result import Epoch, FoldTranscripts

REFERENCES = ["kids and dogs", "the big dark sky", "a door", "by the star"]
NUM_FOLDS = 3


def written(reference, share, rng):
    """The reference with about this share of its characters replaced."""
    return "".join("x" if char != " " and rng.random() < share else char for char in reference)


@pytest.fixture(scope="module")
def scores():
    """Three trials of three folds: 1 is best on all of them together, 0 in fold 0 alone, 2 is worst."""
    rng = np.random.default_rng(0)
    shares = {0: (0.0, 0.4, 0.4), 1: (0.1, 0.1, 0.1), 2: (0.6, 0.6, 0.6)}
    results = {}
    for trial, by_fold in shares.items():
        for fold, share in enumerate(by_fold):
            results[trial, fold] = FoldTranscripts(
                fold=fold,
                clip_ids=[f"{fold}-{i}" for i in range(len(REFERENCES))],
                references=REFERENCES,
                hypotheses=[written(text, share, rng) for text in REFERENCES],
                spaces=True,
                loss=1.0,
                num_train=8,
                seconds=1.0,
                curve=[Epoch(epoch=1, train_loss=2.0, train_uar=None, learning_rate=0.1)],
            )
    return results


@pytest.fixture(scope="module")
def clips():
    rows = [
        {"clip_id": f"{fold}-{i}", "speaker": f"{fold}{i}", "fold": fold, "reference": text}
        for fold in range(NUM_FOLDS)
        for i, text in enumerate(REFERENCES)
    ]
    return pa.Table.from_pylist(rows)


def test_a_fold_is_read_back_from_its_record(scores):
    for score in scores.values():
        assert decode(encode(score, params={"optim.beta1": 0.9})) == score


def test_folds_and_trials_have_error_rates_that_jiwer_finds(scores):
    folds = summary.folds_table(scores, ())
    assert {"cer", "wer"} <= set(folds.column_names) and "uar" not in folds.column_names
    for row in folds.to_pylist():
        score = scores[row["trial"], row["fold"]]
        assert row["cer"] == pytest.approx(jiwer.cer(score.references, score.hypotheses))
        assert row["wer"] == pytest.approx(jiwer.wer(score.references, score.hypotheses))


def test_the_lowest_error_rate_is_best_for_the_study_too(scores, tmp_path):
    search = SearchConfig(metric="cer", num_trials=3, pruning="none")
    space = {"optim.learning_rate": optuna.distributions.FloatDistribution(0.1, 1.0)}
    study = Study(str(tmp_path), search=search, space=space, defaults={}, seed=0)
    for trial in range(3):
        assert study.ask().number == trial
        values = [summary.fold_value(scores[trial, fold], (), "cer") for fold in range(NUM_FOLDS)]
        study.complete(trial, values)
    assert study.study.direction == optuna.study.StudyDirection.MINIMIZE
    assert study.study.best_trial.number == 1
    assert summary.best_trial(study.study.trials, "cer").number == 1


def test_the_pruner_stops_the_trial_that_makes_more_errors(tmp_path):
    search = SearchConfig(metric="cer", num_trials=9, pruning="median")
    space = {"optim.learning_rate": optuna.distributions.FloatDistribution(0.1, 1.0)}
    study = Study(str(tmp_path), search=search, space=space, defaults={}, seed=0)
    for rate in (0.3, 0.3, 0.3):
        number = study.ask().number
        for num in range(1, 6):
            study.report(number, [rate] * num, num_folds=6)
        study.complete(number, [rate] * 6)

    def stopped(rate):
        number = study.ask().number
        return any(study.report(number, [rate] * num, num_folds=6) for num in range(1, 5))

    assert stopped(0.9) and not stopped(0.1)


def test_the_estimate_is_of_the_trial_with_fewest_errors_on_the_drawn_folds(scores, clips):
    values = summary.fold_values(scores, [0, 1, 2], (), "cer", NUM_FOLDS)
    assert (values <= 0).all() and values[2].mean() == values.mean(1).min()
    scored = estimate.search_scored(
        scores, [0, 1, 2], clips=clips, classes=(), metric="cer", num_folds=NUM_FOLDS, seed=0
    )
    shares = trial_shares(values, seed=0)
    errors = sum(
        shares[fold, trial] * jiwer.process_characters(one.references, one.hypotheses).cer
        for (trial, fold), one in scores.items()
    )
    # The folds have the same sentences, so the ratio of sums is the mean of ratios.
    everyone = np.ones((1, len(scored.speakers)))
    assert scored.values(everyone)["cer"][0] == pytest.approx(errors / NUM_FOLDS)
    best = {"cer": 0.05, "wer": 0.2}
    written_down = estimate.estimate(
        scored, metric="cer", num_folds=3, num_trials=3, num_complete=3, best=best, seed=0
    )
    value = written_down["metrics"]["cer"]["value"]
    assert written_down["optimism"]["cer"] == pytest.approx(value - 0.05)
    nested = summary.nested_score(scores, [0, 1, 2], (), "cer", NUM_FOLDS)
    # Without fold 0 trial 1 is best; without another, 0 and 1 are compared on fold 0 and one more.
    picked = [scores[t, f] for f, t in enumerate(np.argmax(values.sum(1, keepdims=True) - values, axis=0))]
    references = [text for one in picked for text in one.references]
    assert nested == pytest.approx(jiwer.cer(references, [t for one in picked for t in one.hypotheses]))


def test_predictions_keep_the_order_of_the_clips(scores, clips):
    shuffled = clips.take([5, 0, 11, 3, 2, 1, 4, 7, 6, 9, 8, 10])
    predictions = summary.predictions_table([scores[1, fold] for fold in range(3)], shuffled, ())
    assert predictions["clip_id"].to_pylist() == shuffled["clip_id"].to_pylist()
    by_clip = {
        clip_id: text
        for fold in range(3)
        for clip_id, text in zip(scores[1, fold].clip_ids, scores[1, fold].hypotheses, strict=True)
    }
    assert predictions["predicted"].to_pylist() == [by_clip[name] for name in shuffled["clip_id"].to_pylist()]
