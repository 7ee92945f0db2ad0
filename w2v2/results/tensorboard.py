"""TensorBoard's events of a run: learning curves, and the scores of a search's trials."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from w2v2.storage import files as storage
from w2v2.training.fold_result import Epoch

Scalars = Mapping[str, Sequence[tuple[str, float, int]]]
"""(tag, value, step) of each event, by the folder of their file."""


def training_scalars(curve: Sequence[Epoch]) -> Scalars:
    """The learning curve of one training."""
    points = [(asdict(point), point.epoch) for point in curve]
    events = [
        (name, value, epoch)
        for point, epoch in points
        for name, value in point.items()
        if name != "epoch" and value is not None
    ]
    return {"training": events}


def search_scalars(curves: pa.Table, trials: pa.Table) -> Scalars:
    """A learning curve per trial and fold, and the trials' scores."""
    scalars: dict[str, list[tuple[str, float, int]]] = {}
    for row in curves.to_pylist():
        events = scalars.setdefault(f"trial-{row['trial']:05d}/fold-{row['fold']:02d}", [])
        names = ("train_loss", "train_uar", "learning_rate")
        events += [(name, row[name], row["epoch"]) for name in names if row[name] is not None]
    mean = "uar_mean" if "uar_mean" in trials.column_names else "cer_mean"
    scored = [row for row in trials.to_pylist() if row[mean] is not None]
    return scalars | {"trials": [(mean, row[mean], row["trial"]) for row in scored]}


def write_tensorboard(run: str, scalars: Scalars) -> None:
    """Write `<run>/tensorboard/` anew; event files of an earlier attempt are deleted."""
    folder = storage.join(run, "tensorboard")
    with tempfile.TemporaryDirectory(prefix="w2v2-events-") as scratch:
        for name, events in scalars.items():
            _write_events(Path(scratch, name), events)
        files = [path for path in Path(scratch).rglob("*") if path.is_file()]
        places = [(storage.join(folder, *path.relative_to(scratch).parts), path) for path in files]
        for uri in _old_events(folder):
            storage.delete(uri)
        storage.write_many(((uri, path.read_bytes()) for uri, path in places), num_at_once=16)


def _write_events(folder: Path, events: Sequence[tuple[str, float, int]]) -> None:
    """Write one file of events; events of the same step are written together.

    A SummaryWriter would start a thread for each file and take twice as long.
    """
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    folder.mkdir(parents=True)
    writer, now = EventsWriter(str(folder / "events")), time.time()
    by_step: dict[int, list[Summary.Value]] = {}
    for tag, value, step in events:
        by_step.setdefault(step, []).append(Summary.Value(tag=tag, simple_value=value))
    for step, values in by_step.items():
        writer.write_event(Event(wall_time=now, step=step, summary=Summary(value=values)))
    writer.close()


def _old_events(folder: str) -> list[str]:
    try:
        return [info.uri for info in storage.list_files(folder)]
    except storage.NotFoundError:
        return []
