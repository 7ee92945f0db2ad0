"""Settings of `w2v2 export`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Write a saved model as an ONNX graph of one clip of any length, compared with the model before it is kept."""

    model: str
    """The model/ folder of a finetune run, local or gs://; or a CTC model of transformers, such as
    facebook/wav2vec2-base-960h, in a folder or on the hub."""
    run: str = "runs/export"
    """The directory that the graph is written to, local or gs://."""
    seed: int = 0
    """Seed of the sounds by which graph and model are compared."""
