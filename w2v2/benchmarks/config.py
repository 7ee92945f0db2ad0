"""Settings of `w2v2 benchmark`: the cases, the number of rounds, and their sizes."""

import os
from dataclasses import dataclass, field
from typing import Literal, get_args

from w2v2.config.checks import at_least
from w2v2.errors import UserError

Case = Literal[
    "search",
    "head",
    "all",
    "extract",
    "gpu",
    "pretrain",
    "ctc",
    "reading",
    "memory",
    "scale",
    "startup",
    "commands",
    "vectors",
]


@dataclass(frozen=True, kw_only=True)
class SearchSizes:
    """The size of the cases search and head: trials x folds x epochs over clips of RAVDESS's lengths."""

    num_clips: int = 24
    """Clips, spread over up to 24 speakers and two classes."""
    num_trials: int = 3
    """Trials, each with hyperparameters of its own, the same for both sides."""
    num_folds: int = 6
    """Folds by speaker."""
    num_epochs: int = 3
    """Epochs of a fold."""
    num_last_layers: int = 2
    """search: how many layers are trained."""
    batch_size: int = 8
    """Clips per optimizer step."""

    def __post_init__(self) -> None:
        at_least("search", self, 1, "num_trials", "num_epochs", "num_last_layers", "batch_size")
        at_least("search", self, 2, "num_folds")
        if self.num_clips < 2 * self.num_folds:
            raise UserError(
                f"search.num_clips must be at least twice search.num_folds={self.num_folds}, got {self.num_clips}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainSizes:
    """The size of the case all: one fold, one epoch."""

    num_clips: int = 16
    """Training clips."""
    batch_size: int = 8
    """Clips per optimizer step."""

    def __post_init__(self) -> None:
        at_least("train", self, 2, "num_clips")
        at_least("train", self, 1, "batch_size")


@dataclass(frozen=True, kw_only=True)
class ExtractSizes:
    """How much the case extract embeds."""

    num_clips: int = 24
    """Clips of each kind of lengths."""
    batch_size: int = 8
    """Clips per batch of the usual loop."""
    batch_s: float = 0.0
    """Our seconds of audio per batch; 0 is the default of the job."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes in bfloat16 on both sides, on a GPU."""

    def __post_init__(self) -> None:
        at_least("extract", self, 1, "num_clips", "batch_size")
        at_least("extract", self, 0, "batch_s")


@dataclass(frozen=True, kw_only=True)
class GpuSizes:
    """The size of the case gpu; on a CPU, choose a smaller encoder or fewer clips."""

    num_clips: int = 1024
    """Clips of each kind of lengths."""
    batch_size: int = 64
    """Clips per optimizer step."""
    num_last_layers: int = 2
    """The layers that are trained where only the last ones are."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto is bf16 on a GPU and float32 on a CPU."""
    num_processes: int = 3
    """Trainings that share the device, each in a process of its own, against one alone."""

    def __post_init__(self) -> None:
        at_least("gpu", self, 2, "num_clips", "num_processes")
        at_least("gpu", self, 1, "batch_size", "num_last_layers")


@dataclass(frozen=True, kw_only=True)
class PretrainSizes:
    """The size of the case pretrain: one epoch, once for each kind of lengths."""

    num_clips: int = 16
    """Clips of each kind of lengths."""
    batch_size: int = 8
    """Clips per optimizer step of the usual loop; ours takes as many seconds of audio."""

    def __post_init__(self) -> None:
        at_least("pretrain", self, 2, "num_clips")
        at_least("pretrain", self, 1, "batch_size")


@dataclass(frozen=True, kw_only=True)
class CtcSizes:
    """The size of the case ctc, which runs once for each kind of lengths."""

    num_clips: int = 32
    """Clips of each kind of lengths."""
    num_epochs: int = 2
    """Epochs; our pass through the frozen convolutions runs once, before the first."""
    batch_size: int = 8
    """Clips per optimizer step."""

    def __post_init__(self) -> None:
        at_least("ctc", self, 2, "num_clips")
        at_least("ctc", self, 1, "num_epochs", "batch_size")


@dataclass(frozen=True, kw_only=True)
class ReadingSizes:
    """How much the case reading reads and decodes."""

    num_objects: int = 1000
    """Objects in the loopback bucket."""
    object_bytes: int = 300_000
    """Size of an object."""
    latency_s: float = 0.02
    """Seconds that the bucket waits before each answer."""
    num_at_once: int = 16
    """How many objects we read at once (data.num_readers of the jobs)."""
    num_decodes: int = 20
    """How often a round decodes a file."""

    def __post_init__(self) -> None:
        at_least("reading", self, 1, "num_objects", "object_bytes", "num_at_once", "num_decodes")
        at_least("reading", self, 0, "latency_s")


@dataclass(frozen=True, kw_only=True)
class MemorySizes:
    """The sizes that the case memory compares; its encoder is 'tiny', since memory grows with clips, if at all."""

    num_clips: tuple[int, int] = (1_000, 20_000)
    """Clips of the small and of the large extraction."""
    clip_s: float = 0.25
    """Length of these clips."""
    num_trials: tuple[int, int] = (2, 12)
    """Trials of the short and of the long search."""

    def __post_init__(self) -> None:
        at_least("memory", self, 0.1, "clip_s")
        for name in ("num_clips", "num_trials"):
            few, many = getattr(self, name)
            if not 1 <= few < many:
                raise UserError(f"memory.{name} must be a small and a larger number, got {few} and {many}")


MIN_TRAINING_CLIPS = 1_000
ScaleJob = Literal["extract_embeddings", "tune_folds", "tune_layers", "finetune", "evaluate", "predict"]


@dataclass(frozen=True, kw_only=True)
class ScaleSizes:
    """The jobs and corpora of the case scale, and its table."""

    jobs: tuple[ScaleJob, ...] = ("extract_embeddings", "tune_folds", "finetune")
    """Whose drivers are measured; tune_folds searches over heads, which its driver trains, tune_layers is a search whose
    workers train layers; evaluate and predict begin with a model that a few of the clips have trained."""
    num_clips: tuple[int, ...] = (10_000, 100_000)
    """Clips of each corpus; a million takes minutes, ten millions an hour."""
    dim: int = 16
    """extract_embeddings: numbers of a vector."""
    table: Literal["duckdb", "parquet", "bigquery"] = "duckdb"
    """extract_embeddings: a local DuckDB file, Parquet files in the loopback bucket, or a loopback BigQuery, which is slow itself."""

    def __post_init__(self) -> None:
        at_least("scale", self, 1, "dim")
        if not self.jobs:
            raise UserError(f"scale.jobs is empty: name one or more of {', '.join(get_args(ScaleJob))}")
        if not self.num_clips or min(self.num_clips) < 1:
            raise UserError(f"scale.num_clips must be numbers of clips, got {list(self.num_clips)}")
        if min(self.num_clips) < MIN_TRAINING_CLIPS and set(self.jobs) != {"extract_embeddings"}:
            raise UserError(
                f"scale.num_clips must be at least {MIN_TRAINING_CLIPS} for jobs that train, got {min(self.num_clips)}"
            )


@dataclass(frozen=True, kw_only=True)
class VectorSizes:
    """The size of the case vectors: heads of trials x folds x epochs over cached vectors of 768 numbers."""

    num_clips: int = 1440
    """Clips, spread over up to 24 speakers and two classes."""
    num_trials: int = 30
    """Trials, each with hyperparameters of its own."""
    num_folds: int = 6
    """Folds by speaker."""
    num_epochs: int = 20
    """Epochs of a fold."""
    batch_size: int = 8
    """Clips per optimizer step."""
    num_trainer_trials: int = 1
    """Trials whose folds Trainer trains, half a minute or more for each fold: its seconds are compared by fold."""

    def __post_init__(self) -> None:
        at_least("vectors", self, 1, "num_trials", "num_epochs", "batch_size", "num_trainer_trials")
        at_least("vectors", self, 2, "num_folds")
        if self.num_clips < 2 * self.num_folds:
            raise UserError(
                f"vectors.num_clips must be at least twice vectors.num_folds={self.num_folds}, got {self.num_clips}"
            )
        if self.num_trainer_trials > self.num_trials:
            raise UserError(
                f"vectors.num_trainer_trials must be at most vectors.num_trials={self.num_trials}, got "
                f"{self.num_trainer_trials}"
            )


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Run us and the usual tools alternately on the same audio, weights, epochs and batches, and compare."""

    cases: tuple[Case, ...] = ()
    """The cases to run; words before the flags mean this."""
    run: str = "runs/benchmark"
    """The run directory, local or gs://; a case that is run again replaces its earlier numbers there."""
    rounds: int = 0
    """How often each side runs, in alternate order; 0 is 4 for all, 3 for extract, gpu and reading, 2 for startup,
    pretrain, ctc and commands, 1 for search, head, memory, scale and vectors, which take minutes."""
    encoder: str = "base"
    """base: wav2vec2-base's geometry with random weights; tiny; a hub name or a local folder."""
    through_job: bool = False
    """extract: also compare whole commands, from files to a table, processes and imports included."""
    num_threads: int = 0
    """Threads of each side; 0 is one for each core."""
    seed: int = 0
    """Seed of audio, weights and batches."""
    search: SearchSizes = field(default_factory=SearchSizes)
    train: TrainSizes = field(default_factory=TrainSizes)
    extract: ExtractSizes = field(default_factory=ExtractSizes)
    gpu: GpuSizes = field(default_factory=GpuSizes)
    pretrain: PretrainSizes = field(default_factory=PretrainSizes)
    ctc: CtcSizes = field(default_factory=CtcSizes)
    reading: ReadingSizes = field(default_factory=ReadingSizes)
    memory: MemorySizes = field(default_factory=MemorySizes)
    scale: ScaleSizes = field(default_factory=ScaleSizes)
    vectors: VectorSizes = field(default_factory=VectorSizes)

    def __post_init__(self) -> None:
        if not self.cases:
            raise UserError(f"cases is empty: name one or more of {', '.join(get_args(Case))}")
        if len(set(self.cases)) < len(self.cases):
            raise UserError(f"cases must be different, got {', '.join(self.cases)}")
        at_least("", self, 0, "rounds", "num_threads", "seed")
        if not self.encoder:
            raise UserError("encoder is empty: give base, tiny, a hub name or a folder")

    @property
    def threads(self) -> int:
        """Threads of each side."""
        return self.num_threads or len(os.sched_getaffinity(0))

    def rounds_of(self, case: Case) -> int:
        """How often each side of a case runs."""
        match case:
            case "extract" | "gpu" | "reading":
                usual = 3
            case "all":
                usual = 4
            case "startup" | "pretrain" | "ctc" | "commands":
                usual = 2
            case "search" | "head" | "memory" | "scale" | "vectors":
                usual = 1
        return self.rounds or usual
