#!/usr/bin/env python
"""Score a saved model on any data with labels.

    jobs/evaluate.py --model runs/finetune/model --data.uri other.csv --run runs/other
    jobs/evaluate.py --model gs://bucket/runs/clinic/model --data.layout clinic --data.uri gs://bucket/clinic --split test

Reads   RAVDESS files, a CSV of clips, a clinic folder or DEAM, local or gs://.
Writes  <run>/config.yaml manifest.parquet rejects.parquet predictions.parquet metrics.json report.html plots/
        and, to go on from, done/
"""

import logging
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from w2v2.cluster import connection, prediction
from w2v2.config import command_line
from w2v2.config.finetune import EvaluateConfig
from w2v2.data import file_facts, manifest, usable_clips
from w2v2.errors import UserError
from w2v2.evaluation.predictions import predictions_table
from w2v2.evaluation.scores import score_lines, score_predictions
from w2v2.machine import describe_run
from w2v2.models import provenance
from w2v2.models.model_info import read_card, read_info
from w2v2.storage import files as storage
from w2v2.storage import run_directory
from w2v2.storage.lease import exclusive
from w2v2.versions import library_versions

logger = logging.getLogger("w2v2.jobs.evaluate")


@exclusive
def main(config: EvaluateConfig) -> dict[str, Any]:
    """The metrics, after everything has been written to the run directory."""
    started = time.monotonic()
    config = resolved(config)
    info, digest = read_info(config.model)
    logger.info("run: %s", config.run)
    found = read_clips(config, info)
    connection.start()
    connection.check_places(run=config.run, model=config.model, **{"data.uri": config.data.uri})
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    said = prediction.predict(config, found.clips, digest=digest)
    found = manifest.with_rejects(found, [(one.clip_id, one.reject) for one in said if one.reject])
    for name in ("duration_s", "audio_digest", "tolerated"):
        column = pa.array([getattr(one, name) for one in said if not one.reject])
        found = replace(found, clips=found.clips.append_column(name, column))
    run_directory.write_table(config.run, "manifest", found.clips)
    run_directory.write_table(config.run, "rejects", found.rejects)
    manifest.check_rejects(found, max_reject_fraction=config.data.max_reject_fraction)
    values = np.concatenate([one.values for one in said if not one.reject])
    keep = ["clip_id", "speaker", "split"]
    predictions = predictions_table(found.clips, values, kind=info.kind, names=info.names, keep=keep)
    run_directory.write_table(config.run, "predictions", predictions)
    card = read_card(config.model)
    metrics = score_predictions(
        predictions, kind=info.kind, names=info.names, seed=0, midpoints=card.get("midpoints")
    )
    heard = provenance.heard(config.model, found.clips)
    metrics |= {
        "job": "evaluate",
        "computed_on": computed_on(config, found.clips, heard),
        "heard_speakers": heard.num_speakers,
        "heard_clips": heard.num_clips,
        "model": {"uri": config.model, "digest": digest},
        "encoder": {"name": info.encoder.name},
        "seconds": round(time.monotonic() - started, 1),
        "made": describe_run(),
        "versions": library_versions("torch", "transformers", "ray"),
    }
    run_directory.write_json(config.run, "metrics", metrics)
    from w2v2.reports.model_page import write_model_report

    page = write_model_report(config.run)
    logger.info("%s", score_lines(metrics))
    logger.info("page: %s", page)
    return metrics


def resolved(config: EvaluateConfig) -> EvaluateConfig:
    """The config with places made absolute."""
    return replace(
        config,
        run=storage.expand(config.run),
        model=storage.expand(config.model),
        data=usable_clips.with_absolute_uri(config.data),
    )


def read_clips(config: EvaluateConfig, info: Any) -> manifest.Manifest:
    """The clips to score; raises UserError where the model does not know what they are labelled with."""
    data = usable_clips.with_demo_made(config.data)
    found = manifest.read(data, task=info.kind)
    if config.split:
        chosen = found.clips.filter(pc.equal(found.clips["split"], config.split))
        if not len(chosen):
            have = sorted(set(found.clips["split"].to_pylist()))
            raise UserError(
                f"no clip has split {config.split!r}; the data has {have}: look at data.split_column"
            )
        found = replace(found, clips=chosen)
    told = (
        manifest.classes_of(found.clips) if info.kind == "classes" else [n for g in found.groups for n in g]
    )
    unknown = [name for name in told if name not in info.names]
    lacking = [name for name in info.names if name not in told] if info.kind != "classes" else []
    if unknown or lacking:
        raise UserError(
            f"the model tells {', '.join(info.names)}, the data has {', '.join(told)}: rename or drop classes with "
            "--data.classes, or choose the columns of the model's labels or values"
        )
    return file_facts.add_file_facts(found, data)


def computed_on(config: EvaluateConfig, clips: pa.Table, heard: provenance.Heard) -> str:
    """A sentence on what the scores are of."""
    num = len(clips["speaker"].unique())
    sentence = f"{len(clips)} clips of {num} speakers of {config.data.uri}"
    sentence += f", split {config.split}" if config.split else ""
    if not heard:
        return f"{sentence}, none of whom trained the model, by name or by recording"
    logger.warning("%s trained this model: these are no scores of unseen speakers", heard)
    return f"{sentence}; {heard} TRAINED THIS MODEL, so this is no score of unseen speakers"


if __name__ == "__main__":
    sys.exit(command_line.run_job(main, EvaluateConfig))
