"""Write a saved model as an ONNX graph, for programs without PyTorch.

    w2v2 export --model runs/finetune/model
    w2v2 export --model gs://bucket/runs/clinic/model --run gs://bucket/runs/clinic-onnx

Reads   the model folder of a finetune run (classes, labels, values or transcripts; also an ensemble), or a CTC
        model of transformers.
Writes  <run>/model.onnx, with weights above 1.5 GB in model.onnx.data, and model.json, which says what goes in and what
        comes out; config.yaml metrics.json
Needs   pip install -e '.[export]'
The graph takes one clip, a mono waveform of any length. It is written only if onnxruntime's outputs equal the model's.
"""

import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from w2v2.audio.decoding import SAMPLE_RATE
from w2v2.config import command_line, guide
from w2v2.config.export import ExportConfig
from w2v2.config.guide import Guide
from w2v2.config.text import TextConfig
from w2v2.errors import UserError
from w2v2.json_types import Json
from w2v2.models.any_model import check_model, is_foreign, load_any, place_of_model
from w2v2.models.model_info import read_card
from w2v2.results.export import write_outcome
from w2v2.storage import files as storage
from w2v2.storage.lease import exclusive
from w2v2.versions import library_versions

if TYPE_CHECKING:  # imports torch
    from w2v2.models.saved_model import SavedModel

logger = logging.getLogger("w2v2.jobs.export")

GUIDE = Guide(
    command="export",
    summary="Write a saved model as an ONNX graph, compared with the model before it is kept.",
    flags={"model": guide.MODEL, "run": "the directory of model.onnx and model.json, local or gs://"},
    examples=(
        "w2v2 export --model runs/finetune/model            # runs/export/model.onnx and model.json",
        "w2v2 export --model gs://bucket/runs/clinic/model --run gs://bucket/runs/clinic-onnx",
    ),
)
FILES = ("model.onnx", "model.onnx.data", "model.json", "metrics.json")


@exclusive
def main(config: ExportConfig) -> dict[str, Json]:
    """How the graph compares with the model, after everything has been written to the run directory.

    Raises UserError for a model that cannot be exported, and where the graph's outputs differ from the model's.
    """
    started = time.monotonic()
    config = replace(config, run=storage.expand(config.run), model=place_of_model(config.model))
    check_model(config.model)
    from w2v2.inference import onnx_graph  # imports torch
    from w2v2.models.one_clip import refuse_unexportable

    onnx_graph.check_installed()
    logger.info("run: %s", config.run)
    saved = load_any(config.model, TextConfig())
    refuse_unexportable(config.model, saved)
    for name in FILES:  # of another model, maybe
        storage.delete(storage.join(config.run, name))
    storage.write_text(storage.join(config.run, "config.yaml"), command_line.dump(config))
    sounds = onnx_graph.check_sounds(saved.model.encoder.min_samples, seed=config.seed)
    expected = onnx_graph.outputs_of(saved, sounds)
    about = onnx_graph.description(saved, operating_point_of(config.model, saved))
    with tempfile.TemporaryDirectory(prefix="w2v2-export-") as scratch:
        place = onnx_graph.write_graph(Path(scratch), saved, about, uri=config.model)
        difference = onnx_graph.largest_difference(place, sounds, expected)
        if difference > onnx_graph.TOLERANCE:
            raise UserError(
                f"model {config.model!r}: onnxruntime's outputs of the exported graph differ from the model's by up to "
                f"{difference:.2g}, wanted at most {onnx_graph.TOLERANCE:g}: the graph was not kept"
            )
        contents = {path.name: path.read_bytes() for path in sorted(Path(scratch).iterdir())}
    check = {
        "lengths_s": [round(len(sound) / SAMPLE_RATE, 4) for sound in sounds],
        "largest_difference": difference,
        "tolerance": onnx_graph.TOLERANCE,
        "versions": library_versions("torch", "transformers", "onnx", "onnxscript", "onnxruntime"),
    }
    seconds = round(time.monotonic() - started, 1)
    return write_outcome(config, contents, about | {"check": check}, seconds=seconds)


def operating_point_of(model: str, saved: "SavedModel") -> dict[str, Json]:
    """`temperature` and `thresholds` of the model's card, where it has them: predict applies them by choice."""
    if is_foreign(model):
        return {}
    card = read_card(model)
    return {name: card[name] for name in ("temperature", "thresholds") if card.get(name)}


def run(args: Sequence[str]) -> int:
    """The exit code of the command with these arguments."""
    return command_line.run_job(main, ExportConfig, args, guide=GUIDE)
