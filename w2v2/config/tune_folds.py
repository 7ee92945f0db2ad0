"""Settings of `w2v2 tune-folds`."""

from dataclasses import dataclass, field, fields
from typing import Literal

from w2v2.config.checks import at_least
from w2v2.config.data import AudioConfig, CacheConfig, FoldsConfig
from w2v2.config.job import RESUMABLE_IN_EVERY_JOB, TrackedJobConfig
from w2v2.config.model import (
    EncoderConfig,
    HeadConfig,
    LoraConfig,
    OptimConfig,
    TaskConfig,
    TrainingConfig,
    check_mixup,
    check_trains_layers,
)
from w2v2.config.resources import TrainingResources
from w2v2.config.text import TextConfig, check_transcripts
from w2v2.errors import UserError
from w2v2.job_commands import command_of


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
    """Trials in all, including the trials of earlier runs of the same command."""
    space: dict[str, Dimension] = field(default_factory=dict)
    """Searched fields by path, e.g. {optim.learning_rate: {low: 1e-5, high: 1e-3, log: true}};
    empty takes the default space over AdamW, which is written to config.yaml."""
    metric: Literal["uar", "accuracy", "macro_f1", "cer", "wer"] = "uar"
    """The metric that the search maximises, as its mean over the folds. Transcripts have error rates, which are
    minimised: cer (their default) or wer."""
    pruning: Literal["none", "asha", "median", "wilcoxon"] = "asha"
    """Who stops a trial between folds."""
    num_startup_trials: int = 5
    """Random trials before TPE proposes."""
    max_concurrent_trials: int = 0
    """Trials at once; 0 is as many as the cluster's CPUs and GPUs allow. 1 repeats a search bit for bit. With
    fewer trials than the cluster has room for, several folds of a trial run at once. Where heads alone are trained
    (encoder.train=head), one process trains six side by side."""
    final_seeds: int = 0
    """After the search, train each fold's choice (the trial best on the other folds) again with this many new seeds;
    the first number of the report is then their score, with the spread between seeds. It costs as much as this many
    trials."""
    nested: bool = False
    """Nested cross-validation: for each fold a separate search on the speakers of the other folds chooses the settings
    of the model that predicts it. The first number of the report is then this score. With 6 folds it costs five times
    the search; cached features are shared."""
    learning_curve: bool = False
    """After the search, train each fold's choice on a quarter, half, three quarters and all of the training speakers
    (5, 10, 15 and 20 of 20), three draws of each, and estimate the score with twice as many speakers. It costs as much
    as about eight trials."""

    @property
    def replicates(self) -> list[int]:
        """The numbers of the seeds that each fold's choice is trained with after the search, 0 being the search's own seed."""
        if self.final_seeds:
            return list(range(1, self.final_seeds + 1))
        return [0] if self.nested else []

    def __post_init__(self) -> None:
        at_least("search", self, 1, "num_trials", "num_startup_trials")
        at_least("search", self, 0, "max_concurrent_trials", "final_seeds")
        for path, dimension in self.space.items():
            dimension.check(path)


@dataclass(frozen=True, kw_only=True)
class TuneFoldsConfig(TrackedJobConfig):
    """Search AdamW's hyperparameters; every trial is scored by cross-validation over speaker folds."""

    RESUMABLE = (
        *RESUMABLE_IN_EVERY_JOB,
        "track",
        "search.num_trials",
        "search.max_concurrent_trials",
        "resources.num_workers",
        "resources.cpus_per_worker",
        "resources.gpus_per_worker",
        "search.final_seeds",
        "search.nested",
        "search.learning_curve",
        "baseline",
        "data.slice_columns",
    )
    run: str = "runs/tune_folds"
    """The run directory, local or gs://; the same directory continues the same run."""
    seed: int = 0
    """Seed of weights, batches and search."""
    task: TaskConfig = field(default_factory=TaskConfig)
    text: TextConfig = field(default_factory=TextConfig)
    audio: AudioConfig = field(default_factory=AudioConfig)
    folds: FoldsConfig = field(default_factory=FoldsConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    resources: TrainingResources = field(default_factory=TrainingResources)
    baseline: str = ""
    """The run directory of a finished `w2v2 baseline` over the same clips and folds, whose scores the page
    puts next to these; empty is none."""
    cache: CacheConfig = field(default_factory=CacheConfig)

    @property
    def resumable(self) -> tuple[str, ...]:
        """Paths of the settings that may differ when a run is continued; searched settings may, as every trial has its own values."""
        return (*self.RESUMABLE, *self.search.space)

    def __post_init__(self) -> None:
        self.alone_if_local("resources.num_workers")
        if self.resources.min_workers:
            raise UserError(
                "resources.min_workers is for finetune and pretrain, which have checkpoints; a search that loses machines "
                f"trains with those that are left by itself: leave it out, got {self.resources.min_workers}"
            )
        if self.encoder.train != "head":
            self.alone_if_local("search.max_concurrent_trials")
        self._check_task()
        if self.training.patience_epochs:
            raise UserError(
                "training.patience_epochs is for finetune: here every fold runs all epochs, as nothing may be "
                "chosen on held-out clips"
            )
        check_mixup(self.task, self.training, searched=self.search.space)
        check_trains_layers(
            self.encoder,
            {"optim.layer_decay": self.optim.layer_decay != 1, "lora.rank": self.lora.rank > 0},
            searched=self.search.space,
        )
        self._check_trainings_after()
        self._check_space()

    def _check_trainings_after(self) -> None:
        """Raises UserError for trainings after the search that its task or its folds do not allow."""
        after = [name for name in ("nested", "final_seeds", "learning_curve") if getattr(self.search, name)]
        if self.task.kind == "transcript" and after:
            raise UserError(
                f"search.{after[0]} is for task.kind=classes, got task.kind=transcript: leave it out; the first number of the "
                "search is corrected for the choice among its trials"
            )
        if self.search.nested and self.folds.num_folds < 3:
            raise UserError(
                f"search.nested needs folds.num_folds of at least 3, got {self.folds.num_folds}: it leaves one fold out, and "
                "searches by cross-validation over the other folds, of which it needs two"
            )

    def _check_space(self) -> None:
        """Raises UserError for learning rates that are not positive, and for fields that trials cannot vary."""
        rates = self.search.space.get("optim.learning_rate", Dimension()).choices
        if not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
            raise UserError(
                f"search.space: optim.learning_rate must be positive, got choices {list(rates)}: leave it out of the space for "
                "the rate that suits the encoder"
            )
        for path in self.search.space:
            section, _, name = path.partition(".")
            if section not in ("encoder", "lora", "head", "optim", "training"):
                raise UserError(
                    f"search.space: {path!r} is not a field that trials can vary; use encoder., lora., head., optim. or training."
                )
            names = [f.name for f in fields(getattr(self, section))]
            if name not in names:
                raise UserError(f"search.space: {path!r} is not a field; {section} has {', '.join(names)}")

    def _check_task(self) -> None:
        """Raises UserError for what classes or transcripts cannot have."""
        kind, metric = self.task.kind, self.search.metric
        if kind not in ("classes", "transcript"):
            raise UserError(
                f"task.kind must be classes or transcript in a search, got {kind}: use {command_of('finetune')}"
            )
        if kind == "classes":
            if metric in ("cer", "wer"):
                raise UserError(f"search.metric={metric} is for task.kind=transcript, got task.kind=classes")
            if self.text != TextConfig():
                raise UserError("text.* is for task.kind=transcript, got task.kind=classes")
            if self.encoder.pooling == "none":
                raise UserError("encoder.pooling=none is for task.kind=transcript, got task.kind=classes")
            return
        check_transcripts(self.encoder, self.head, self.text, self.audio)
        if metric not in ("uar", "cer", "wer"):
            raise UserError(f"search.metric must be cer or wer for task.kind=transcript, got {metric}")
        if metric == "wer" and not self.text.spaces:
            raise UserError("search.metric=wer needs words, and text.spaces is false: use cer")
        if "encoder.pooling" in self.search.space:
            raise UserError(
                "search.space: encoder.pooling is for task.kind=classes: transcripts need every frame"
            )
        if self.baseline:
            raise UserError("baseline is for task.kind=classes: a baseline has no transcripts; leave it out")
        trained = self.training
        if trained.class_weights != "none" or trained.sampling != "all" or trained.label_smoothing:
            raise UserError(
                "training.class_weights, training.sampling and training.label_smoothing are for task.kind=classes, got "
                "task.kind=transcript"
            )
