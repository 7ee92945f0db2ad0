"""Settings of `w2v2 extract-embeddings`."""

from dataclasses import dataclass, field
from typing import Literal

from w2v2.config.checks import at_least, check_hop
from w2v2.config.data import AudioConfig
from w2v2.config.job import JobConfig
from w2v2.config.resources import ExtractionResources
from w2v2.errors import UserError


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """The encoder that makes the vectors, the layers, and the pooling of frames to one vector."""

    name: str = "tiny"
    """A hub name, a local folder, a gs:// folder, or 'tiny': a small one with random weights."""
    layers: Literal["last", "all"] | int | tuple[int, ...] = "last"
    """Hidden states to pool, one row each: last, one number (0 enters the first layer), several, or all. A model that is
    trained takes one vector per clip instead, which its encoder.layer chooses or makes of several layers."""
    pooling: Literal["mean", "sum", "max", "mean+std"] = "mean"
    """How frames become one vector; only a clip's own frames count."""
    batch_s: float = 0.0
    """Seconds of audio, padding included, in one forward pass; 0 takes 8 on a CPU and 240 on a GPU."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("encoder.name is empty: give a hub name, a folder, a gs:// folder or 'tiny'")
        at_least("encoder", self, 0, "batch_s")
        wanted = self.layers
        numbers = wanted if isinstance(wanted, tuple) else (wanted,) if isinstance(wanted, int) else (0,)
        if not numbers or min(numbers) < 0 or len(set(numbers)) < len(numbers):
            raise UserError(
                f"encoder.layers must be last, all, or different numbers from 0 up, got {list(numbers)}"
            )

    def layer_numbers(self, num_layers: int) -> list[int]:
        """Numbers of the hidden states wanted, from 0 (enters the first layer) to num_layers (the last one).

        Raises UserError for a layer that the encoder does not have.
        """
        match self.layers:
            case "last":
                return [num_layers]
            case "all":
                return list(range(num_layers + 1))
            case int(number):
                numbers = [number]
            case several:
                numbers = sorted(several)
        if numbers[-1] > num_layers:
            raise UserError(
                f"encoder.layers must be at most {num_layers}, the layers of {self.name}, got {numbers[-1]}"
            )
        return numbers


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(JobConfig):
    """One row a clip, layer and window in a table: the pooled vector of an encoder, exactly once."""

    run: str = "runs/extract_embeddings"
    """The run directory, local or gs://; the same directory continues the same run."""
    table: str = ""
    """bq://project.dataset.table, duckdb:///folder/file.db?table=name, or a folder (local or gs://) of
    Parquet; empty is <run>/embeddings.db, a DuckDB file (Parquet in <run>/embeddings for a gs:// run)."""
    window_s: float = 0.0
    """Cut clips into windows of this many seconds, one row each; 0 is one row for the whole clip."""
    hop_s: float = 0.0
    """Seconds from one window's start to the next one's; 0 is window_s."""
    labels: bool | tuple[str, ...] = False
    """Text columns that the table gets too: true is label and speaker; or names out of label, speaker,
    split and any columns of the CSV (of Common Voice's tables; of LibriSpeech text, the transcript)."""
    seed: int = 0
    """Seed of the random weights of 'tiny'."""
    audio: AudioConfig = field(default_factory=AudioConfig)
    encoder: VectorConfig = field(default_factory=VectorConfig)
    resources: ExtractionResources = field(default_factory=ExtractionResources)

    def __post_init__(self) -> None:
        self.alone_if_local("resources.num_workers")
        if self.window_s and self.window_s < self.audio.min_s:
            raise UserError(
                f"window_s must be 0 or at least audio.min_s={self.audio.min_s:g}, got {self.window_s:g}"
            )
        check_hop(self.window_s, self.hop_s)

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """The names of the text columns of clips that the table gets, too; see labels."""
        if isinstance(self.labels, bool):
            return ("label", "speaker") if self.labels else ()
        return self.labels
