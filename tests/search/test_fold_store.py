"""A fold's record comes back as it was, and a damaged one counts as missing."""

import numpy as np
import pytest

from tests.cloud.gcs import without_pauses
from w2v2.search.fold_store import FoldStore, decode, encode
from w2v2.storage.files import RefusedError, UnreachableError
from w2v2.training.fold_result import Epoch, FoldScore


def make_score(fold: int = 3) -> FoldScore:
    rng = np.random.default_rng(fold)
    return FoldScore(
        fold=fold,
        clip_ids=["Actor_01/a.wav", "b,\"'.wav", "ü.wav"],
        targets=np.array([0, 4, 2]),
        probabilities=rng.dirichlet(np.ones(5), 3),
        loss=1.25,
        num_train=17,
        seconds=3.5,
        curve=[
            Epoch(epoch=1, train_loss=2.0, train_uar=0.25, learning_rate=1e-3),
            Epoch(epoch=2, train_loss=1.0, train_uar=0.5, learning_rate=0.0),
        ],
    )


def assert_equal(a: FoldScore, b: FoldScore) -> None:
    assert (a.fold, a.clip_ids, a.loss, a.num_train, a.seconds, a.curve) == (
        b.fold, b.clip_ids, b.loss, b.num_train, b.seconds, b.curve,
    )  # fmt: skip
    assert np.array_equal(a.targets, b.targets) and np.array_equal(a.probabilities, b.probabilities)


def test_round_trip_is_exact():
    assert_equal(decode(encode(make_score())), make_score())


@pytest.mark.parametrize("place", ["local", "bucket"])
def test_records_by_trial_and_fold(tmp_path, bucket, place):
    fold_store = FoldStore(str(tmp_path) if place == "local" else "gs://speech/run")
    fold_store.write(7, make_score(3))
    fold_store.write(12, make_score(0))
    assert_equal(fold_store.read(7, 3), make_score(3))
    assert fold_store.read(7, 0) is None
    assert sorted(dict(fold_store.each([7, 8, 12], 6))) == [(7, 3), (12, 0)]


def flip(body: bytes, at: int) -> bytes:
    return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:50], lambda b: b"", lambda b: flip(b, b.index(b"Actor_01") + 3)]
)
def test_damaged_record_is_missing(tmp_path, damage, caplog):
    fold_store = FoldStore(str(tmp_path))
    fold_store.write(1, make_score())
    path = next((tmp_path / "ledger").iterdir())
    path.write_bytes(damage(path.read_bytes()))
    assert fold_store.read(1, 3) is None
    assert "damaged" in caplog.text and "the fold is trained again" in caplog.text
    assert dict(fold_store.each([1], 6)) == {}


def test_a_bucket_that_does_not_answer_is_no_missing_fold(bucket, monkeypatch):
    without_pauses(monkeypatch)
    fold_store = FoldStore("gs://speech/run")
    fold_store.write(1, make_score())
    bucket.faults.add(kind="status", count=-1)
    for act in (lambda: fold_store.read(1, 3), lambda: dict(fold_store.each([1], 6))):
        with pytest.raises(UnreachableError):
            act()
    bucket.faults.clear()
    bucket.deny("speech", "storage.objects.get")
    for act in (lambda: fold_store.read(1, 3), lambda: dict(fold_store.each([1], 6))):
        with pytest.raises(RefusedError):
            act()


def test_a_record_of_other_hyperparameters_is_not_this_trials(tmp_path, caplog):
    fold_store, params = (
        FoldStore(str(tmp_path)),
        {"optim.learning_rate": 1e-3 / 3, "optim.schedule": "linear"},
    )
    fold_store.write(1, make_score(), params=params)
    assert_equal(fold_store.read(1, 3, params=dict(reversed(params.items()))), make_score())
    assert_equal(fold_store.read(1, 3), make_score())
    assert fold_store.read(1, 3, params=params | {"optim.learning_rate": 1e-3}) is None
    assert "of a trial with other hyperparameters: the fold is trained again" in caplog.text
    fold_store.write(1, make_score())
    assert_equal(fold_store.read(1, 3, params=params), make_score())
