"""Settings of each job: the sections that it takes, and those that are its own."""

from dataclasses import dataclass, field, fields
from typing import Literal

from w2v2.config import (
    AudioConfig,
    AugmentConfig,
    CacheConfig,
    CheckpointConfig,
    DataConfig,
    Descriptor,
    EncoderConfig,
    FoldsConfig,
    HeadConfig,
    OptimConfig,
    SplitConfig,
    TaskConfig,
    TrainingConfig,
    UserError,
    at_least,
)


@dataclass(frozen=True, kw_only=True)
class Dimension:
    """One searched field: an interval (low, high, on a log scale if log) or a list of choices."""

    low: float = 0.0
    """Smallest value of the interval."""
    high: float = 0.0
    """Largest value of the interval."""
    log: bool = False
    """Search on a log scale."""
    choices: tuple[bool | int | float | str, ...] = ()
    """Values to choose from, instead of an interval."""

    def check(self, path: str) -> None:
        """Raises UserError, naming the field, where this is neither an interval nor choices."""
        if self.choices:
            if self.low or self.high or self.log:
                raise UserError(f"search.space: {path} has choices and low, high or log: give one of the two")
        elif not self.low < self.high:
            raise UserError(
                f"search.space: low of {path} must be below its high, got low={self.low:g} high={self.high:g}"
            )
        elif self.log and not self.low > 0:
            raise UserError(f"search.space: low of {path} must be positive on a log scale, got {self.low:g}")


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """The Bayesian search: Ray Tune runs the trials, Optuna's TPE proposes them."""

    num_trials: int = 6
    """Trials in all, those of earlier runs of the same command included."""
    space: dict[str, Dimension] = field(default_factory=dict)
    """Searched fields by path, e.g. {optim.learning_rate: {low: 1e-5, high: 1e-3, log: true}};
    empty takes the default space over AdamW, which is written to config.yaml."""
    metric: Literal["uar", "accuracy", "macro_f1"] = "uar"
    """What a trial maximises: the mean of this metric over the folds."""
    pruning: Literal["none", "asha", "median", "wilcoxon"] = "asha"
    """Who stops a trial between folds."""
    num_startup_trials: int = 5
    """Random trials before TPE proposes."""
    max_concurrent_trials: int = 0
    """Trials at once; 0 is as many as the cluster's CPUs and GPUs allow. 1 repeats a search bit for bit. With
    fewer trials than the cluster has room for, several folds of a trial run at once."""
    cpus_per_trial: float = 1.0
    """CPUs (and threads) of one trial."""
    gpus_per_trial: float = 1.0
    """GPUs of one trial, fractions allowed; a cluster without GPUs runs trials on CPUs."""
    workers_per_fold: int = 1
    """More than 1 trains each fold with that many DDP workers under Ray Train."""

    def __post_init__(self) -> None:
        at_least("search", self, 1, "num_trials", "num_startup_trials", "workers_per_fold")
        at_least("search", self, 0, "max_concurrent_trials", "gpus_per_trial")
        for path, dimension in self.space.items():
            dimension.check(path)
        if not self.cpus_per_trial > 0:
            raise UserError(f"search.cpus_per_trial must be positive, got {self.cpus_per_trial}")


@dataclass(frozen=True, kw_only=True)
class TuneFoldsConfig:
    """Search AdamW's hyperparameters; every trial is scored by cross-validation over speaker folds."""

    run: str = "runs/tune_folds"
    """The run directory, local or gs://; the same directory continues the same run."""
    seed: int = 0
    """Seed of weights, batches and search."""
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    baseline: str = ""
    """The run directory of a finished jobs/baseline.py over the same clips and folds, whose scores the page
    puts beside these; empty is none."""
    cache: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        if self.training.patience_epochs:
            raise UserError(
                "training.patience_epochs is for jobs/finetune.py: here every fold runs all epochs, as nothing may be "
                "chosen on held-out clips"
            )
        for path in self.search.space:
            section, _, name = path.partition(".")
            if section not in ("encoder", "head", "optim", "training"):
                raise UserError(
                    f"search.space: {path!r} is not a field that trials can vary; use encoder., head., optim. or training."
                )
            known = [f.name for f in fields(getattr(self, section))]
            if name not in known:
                raise UserError(f"search.space: {path!r} is not a field; {section} has {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """Which wav2vec2-family encoder makes the vectors, of which layers, and how frames become one vector."""

    name: str = "tiny"
    """A hub name, a local folder, a gs:// folder, or 'tiny': a small one with random weights."""
    layers: Literal["last", "all"] | int | tuple[int, ...] = "last"
    """Hidden states to pool, one row each: last, one number (0 enters the first layer), several, or all."""
    pooling: Literal["mean", "sum", "max", "mean+std"] = "mean"
    """How frames become one vector; only a clip's own frames count."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16 computes in bfloat16 on a GPU, faster and with about two digits; it is refused on a CPU."""
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


@dataclass(frozen=True, kw_only=True)
class WorkersConfig:
    """How the cluster is dealt out."""

    num_encoders: int = 0
    """Encoders that work at once; 0 is as many as the cluster's GPUs, or without any its CPUs, allow."""
    cpus_per_encoder: float = 1.0
    """CPUs (and threads) of an encoder on a cluster without GPUs."""
    gpus_per_encoder: float = 1.0
    """GPUs of an encoder, fractions allowed; a cluster without GPUs computes on CPUs."""
    clips_per_part: int = 0
    """Clips whose vectors are written at once, and at most lost when a worker dies; 0 chooses."""

    def __post_init__(self) -> None:
        at_least("workers", self, 0, "num_encoders", "clips_per_part")
        for name in ("cpus_per_encoder", "gpus_per_encoder"):
            if not getattr(self, name) > 0:
                raise UserError(f"workers.{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class ExtractConfig:
    """One row a clip, layer and window in a table: the pooled vector of an encoder, exactly once."""

    run: str = "runs/extract_embeddings"
    """The run directory, local or gs://; the same directory continues the same run."""
    table: str = ""
    """bq://project.dataset.table, duckdb:///folder/file.db?table=name, or a folder (local or gs://) of
    Parquet; empty is <run>/embeddings.db, a DuckDB file (Parquet in <run>/embeddings for a gs:// run)."""
    plan: bool = False
    """Only tell what would be done: clips, hours, bytes, rows, time; nothing is written."""
    window_s: float = 0.0
    """Cut clips into windows of this many seconds, one row each; 0 is one row for the whole clip."""
    hop_s: float = 0.0
    """Seconds from one window's start to the next one's; 0 is window_s."""
    labels: bool | tuple[str, ...] = False
    """Text columns that the table gets too: true is label and speaker; or names out of label, speaker,
    split and any columns of the CSV."""
    seed: int = 0
    """Seed of the random weights of 'tiny'."""
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    encoder: VectorConfig = field(default_factory=VectorConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        if self.window_s and self.window_s < self.audio.min_s:
            raise UserError(
                f"window_s must be 0 or at least audio.min_s={self.audio.min_s:g}, got {self.window_s:g}"
            )
        if self.hop_s and not 0 < self.hop_s <= self.window_s:
            raise UserError(f"hop_s must be in (0, window_s={self.window_s:g}], got {self.hop_s:g}")

    @property
    def carried(self) -> tuple[str, ...]:
        """The names of the text columns that are taken along."""
        if isinstance(self.labels, bool):
            return ("label", "speaker") if self.labels else ()
        return self.labels


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Train one model on the train split and score it once on the test split."""

    run: str = "runs/finetune"
    """The run directory, local or gs://; the same directory continues the same run."""
    seed: int = 0
    """Seed of weights and batches."""
    workers: int = 1
    """Processes that train together by DDP under Ray Train, each with its share of every batch."""
    cpus_per_worker: float = 1.0
    """CPUs (and threads) of one worker."""
    gpus_per_worker: float = 1.0
    """GPUs of one worker; a cluster without GPUs trains on CPUs."""
    before_remapping: bool = False
    """Train a second model on the classes as they are, without data.classes, in <run>/before_remapping, and
    show its report beside that of the remapped classes."""
    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)

    def __post_init__(self) -> None:
        at_least("", self, 1, "workers")
        at_least("", self, 0, "gpus_per_worker")
        if not self.cpus_per_worker > 0:
            raise UserError(f"cpus_per_worker must be positive, got {self.cpus_per_worker}")
        if self.augment.kinds and self.encoder.train != "all":
            raise UserError(
                f"augment.kinds needs encoder.train=all, got {self.encoder.train}: what is frozen is computed once, from "
                "waveforms as they are"
            )
        if "speed" in self.augment.kinds and self.audio.fixed_s:
            raise UserError(
                "augment.kinds has speed, which changes lengths, but audio.fixed_s wants one: drop one of them"
            )
        if self.before_remapping and not self.data.classes:
            raise UserError("before_remapping needs data.classes, which says how classes are remapped")
        whole = self.task.loss == "ccc" or self.task.variance_penalty or self.task.correlation_penalty
        if whole and self.optim.accumulation_steps > 1:
            raise UserError(
                "optim.accumulation_steps must be 1 with task.loss=ccc or a penalty, which look at a batch as a whole, "
                f"got {self.optim.accumulation_steps}"
            )
        if self.task.kind != "classes" and (
            self.training.class_weights != "none"
            or self.training.sampling != "all"
            or self.training.label_smoothing
        ):
            raise UserError(
                "training.class_weights, training.sampling and training.label_smoothing are for task.kind=classes, "
                f"got task.kind={self.task.kind}"
            )


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Score a saved model on any data with labels."""

    model: str
    """The model/ folder of a jobs/finetune.py run, local or gs://."""
    run: str = "runs/evaluate"
    """The run directory, local or gs://."""
    split: str = ""
    """Only the clips of this split of the data (train, val or test); empty is all clips."""
    data: DataConfig = field(default_factory=DataConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Write a saved model's predictions for recordings whose labels are not known."""

    model: str
    """The model/ folder of a jobs/finetune.py run, local or gs://."""
    run: str = "runs/predict"
    """The run directory, local or gs://."""
    table: str = ""
    """A file ending in .csv, bq://project.dataset.table, duckdb:///folder/file.db?table=name, or a folder
    (local or gs://) of Parquet; empty is <run>/predictions.csv."""
    window_s: float = 0.0
    """Predict windows of so many seconds, one row each; 0 is one row for the whole clip."""
    hop_s: float = 0.0
    """Seconds from one window's start to the next one's; 0 is window_s."""
    data: DataConfig = field(default_factory=DataConfig)
    workers: WorkersConfig = field(default_factory=WorkersConfig)

    def __post_init__(self) -> None:
        at_least("", self, 0, "window_s", "hop_s")
        if self.hop_s and self.hop_s > self.window_s:
            raise UserError(f"hop_s must be in (0, window_s={self.window_s:g}], got {self.hop_s:g}")


@dataclass(frozen=True, kw_only=True)
class SvmConfig:
    """A support vector machine with RBF kernel on hand-made features."""

    features: tuple[Descriptor, ...] = ("mfcc",)
    """Hand-made features of the whole clip (egemaps needs opensmile installed)."""
    c: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    """Grid: how much a clip on the wrong side of the margin costs."""
    gamma: tuple[float, ...] = (0.0, 0.001, 0.01, 0.1)
    """Grid: width of the kernel; 0 is one over the number of features times their variance."""
    num_inner_folds: int = 4
    """Folds, by speaker, among the training clips that choose from the grid."""

    def __post_init__(self) -> None:
        at_least("svm", self, 2, "num_inner_folds")
        if not self.features or not self.c or not self.gamma:
            raise UserError("svm.features, svm.c and svm.gamma must each have a value")
        if min(self.c) <= 0 or min(self.gamma) < 0:
            raise UserError(f"svm.c must be positive and svm.gamma 0 or more, got {self.c} and {self.gamma}")


@dataclass(frozen=True, kw_only=True)
class BaselineConfig:
    """Score a support vector machine on hand-made features over the same folds as jobs/tune_folds.py."""

    run: str = "runs/baseline"
    """The run directory, local or gs://."""
    seed: int = 0
    """Seed of the bootstrap."""
    data: DataConfig = field(default_factory=DataConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    svm: SvmConfig = field(default_factory=SvmConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
