"""TensorBoard's events, read back by TensorBoard itself."""

import pyarrow as pa
import pytest

from w2v2.results.tensorboard import search_scalars, training_scalars, write_tensorboard
from w2v2.training.fold_result import Epoch


def test_tensorboard_has_every_curve_once_however_often_it_is_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rows = [
        {"trial": 3, "fold": 1, "epoch": e, "train_loss": 1.0 / e, "train_uar": 0.2, "learning_rate": 0.1}
        for e in (1, 2)
    ]
    trials = pa.table({"trial": [3, 4], "uar_mean": [0.4, None]})
    for _ in range(2):
        write_tensorboard(str(tmp_path), search_scalars(pa.Table.from_pylist(rows), trials))
    folders = {path.parent for path in (tmp_path / "tensorboard").rglob("*tfevents*")}
    assert folders == {tmp_path / "tensorboard/trial-00003/fold-01", tmp_path / "tensorboard/trials"}

    def events(folder, tag):
        accumulator = EventAccumulator(str(tmp_path / "tensorboard" / folder))
        accumulator.Reload()
        return [(event.step, event.value) for event in accumulator.Scalars(tag)]

    assert events("trial-00003/fold-01", "train_loss") == [(1, 1.0), (2, 0.5)]
    assert events("trials", "uar_mean") == [(3, pytest.approx(0.4))]


def test_a_training_curve_leaves_out_what_has_no_value():
    point = Epoch(epoch=1, train_loss=0.5, train_uar=None, learning_rate=0.1, val_loss=None)
    assert training_scalars([point]) == {"training": [("train_loss", 0.5, 1), ("learning_rate", 0.1, 1)]}
