"""The end of an export: the graph, its description, metrics.json and the lines in the terminal."""

import logging
from collections.abc import Mapping

from w2v2.config.export import ExportConfig
from w2v2.json_types import Json, JsonObject
from w2v2.storage import files as storage
from w2v2.storage import run_directory

logger = logging.getLogger(__name__)


def write_outcome(
    config: ExportConfig, contents: Mapping[str, bytes], about: JsonObject, *, seconds: float
) -> dict[str, Json]:
    """The run's numbers, after the graph, its description and metrics.json have been written."""
    check = about["check"]
    for name, body in contents.items():
        storage.write_bytes(storage.join(config.run, name), body)
    run_directory.write_json(config.run, "model", about)
    metrics = {"job": "export", "model": about["digest"], **check, "seconds": seconds}
    run_directory.write_metrics(config.run, metrics)
    logger.info(
        "model.onnx: %.1f MB; for %d clips of %g to %g s onnxruntime's outputs differ by at most %.1g from the model's",
        sum(map(len, contents.values())) / 1e6,
        len(check["lengths_s"]),
        min(check["lengths_s"]),
        max(check["lengths_s"]),
        check["largest_difference"],
    )
    logger.info("input, preprocessing and outputs: %s/model.json", config.run)
    return metrics
