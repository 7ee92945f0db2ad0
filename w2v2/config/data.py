"""Settings of where clips come from and how they are decoded, as frozen dataclasses that check themselves.

A flag is a field's path (`--data.uri clips.csv`) and a YAML file nests the same way.
"""

from dataclasses import dataclass, field
from typing import Literal

from w2v2.config.checks import at_least, fraction
from w2v2.errors import UserError

TaskKind = Literal["classes", "multi_label", "regression", "transcript"]
SPLITS = ("train", "val", "test")


Descriptor = Literal["mfcc", "chroma", "spectral", "pitch", "energy", "egemaps"]


Layout = Literal[
    "auto",
    "ravdess",
    "csv",
    "clinic",
    "deam",
    "emodb",
    "crema_d",
    "savee",
    "tess",
    "iemocap",
    "msp_podcast",
    "librispeech",
    "common_voice",
    "files",
]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The place and layout of the clips and their labels."""

    uri: str = "demo"
    """A folder or gs:// prefix of RAVDESS files (or any audio, see layout), a table of clips (.csv, .tsv, .parquet,
    .xlsx, .xls, .ods; local or gs://), or 'demo'."""
    files: tuple[str, ...] = ()
    """Recordings and folders to take in place of all that is below uri; w2v2 predict and evaluate take them as words
    without a flag, and - as a list of them on standard input."""
    layout: Layout = "auto"
    """How to read uri: RAVDESS's file names hold label and speaker; csv is a table of any kind that has them in columns; clinic is a
    folder with train.csv, test.csv (and val.csv) and labels.txt; deam is a folder with DEAM's annotations
    and songs; librispeech is a folder with *.trans.txt files next to the audio, common_voice a folder with
    train.tsv, dev.tsv, test.tsv and clips/; emodb, crema_d, savee, tess, iemocap and msp_podcast are these corpora as
    they are published; files are any audio files, without labels. auto takes csv for the name of a table and
    ravdess otherwise (jobs that need no labels: files, where not all names are RAVDESS's)."""
    vocal_channel: Literal["speech", "song", "both"] = "speech"
    """RAVDESS: which vocal channel to use."""
    sheet: str = ""
    """Spreadsheets: the name of the sheet; empty is the first one."""
    id_column: str = "clip_id"
    """CSV (and every other table): column that names a clip; where the file has none, the uri (and its segment) names it."""
    uri_column: str = "uri"
    """CSV: column with a gs:// or file uri, or a path relative to the CSV's folder."""
    label_column: str = "label"
    """CSV: column with the class."""
    speaker_column: str = "speaker"
    """CSV: column with the speaker, the unit that is never on both sides of a split; clinic: column, or
    else key of metadata.json."""
    text_column: str = "text"
    """CSV: column with the transcript, for task.kind transcript."""
    slice_columns: tuple[str, ...] = ()
    """CSV with classes: further columns whose values are compared with each other, such as sex or device; sex, intensity and
    statement of RAVDESS's names need no column."""
    start_column: str = "start_s"
    """CSV: optional column, where in the file the clip starts, in seconds."""
    end_column: str = "end_s"
    """CSV: optional column, where in the file the clip ends, in seconds."""
    split_column: str = "split"
    """CSV: optional column with a split of one's own: train, val or test."""
    target_columns: tuple[str, ...] = ()
    """CSV: the columns of several labels (0, 1 or empty) or values (numbers or empty), for task.kind
    multi_label and regression."""
    labels_file: str = ""
    """clinic, and tables of several labels: the file of labels, one head per line, the labels of a line separated by commas; a name in the
    folder or a whole path; empty is labels.txt (tables: one head of data.target_columns)."""
    studies: tuple[str, ...] = ()
    """clinic: the subfolders whose recordings are used; empty is all."""
    classes: dict[str, str] = field(default_factory=dict)
    """Class names to rename or merge, e.g. {calm: neutral}; the name 'drop' leaves a class out."""
    merge_names: bool = False
    """Take speakers (and classes) whose names look the same for one: '7' and '07', 'Anna' and 'anna ', accents
    written in two ways. Without it they stay different, and a warning lists them."""
    max_reject_fraction: float = 0.01
    """The job stops when a larger fraction of the clips cannot be used."""
    num_readers: int = 16
    """How many objects are read at once by each process."""

    def __post_init__(self) -> None:
        if not self.uri:
            raise UserError(
                "data.uri is empty: give a folder, a gs:// prefix, a table of clips (.csv, .parquet, .xlsx) or 'demo'"
            )
        if not 0 <= self.max_reject_fraction <= 1:
            raise UserError(f"data.max_reject_fraction must be in [0, 1], got {self.max_reject_fraction}")
        at_least("data", self, 1, "num_readers")


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """How bytes become a mono 16 kHz waveform."""

    resampler: Literal["soxr", "torchaudio", "librosa"] = "soxr"
    """Who resamples to 16 kHz; soxr HQ is the most exact and the fastest of the three."""
    trim_db: float = 0.0
    """Cut leading and trailing silence quieter than this many dB below the peak; 0 is off."""
    crop_s: float = 0.0
    """Keep only the first seconds of a clip; 0 is off."""
    fixed_s: float = 0.0
    """Cut or fill up with zeros to exactly so many seconds, as input of one length; 0 is off."""
    min_s: float = 0.1
    """Shorter clips are rejected."""
    max_s: float = 60.0
    """Longer clips are rejected (after crop_s, where that is set)."""

    def __post_init__(self) -> None:
        at_least("audio", self, 0, "trim_db", "crop_s", "fixed_s")
        at_least("audio", self, 0.025, "min_s")
        if not self.min_s < self.max_s <= 3600:
            raise UserError(f"audio.max_s must be in (audio.min_s={self.min_s:g}, 3600], got {self.max_s:g}")
        for name in ("crop_s", "fixed_s"):
            if getattr(self, name) > 3600:
                raise UserError(f"audio.{name} must be at most 3600, got {getattr(self, name):g}")
            if 0 < getattr(self, name) < self.min_s:
                raise UserError(
                    f"audio.{name}={getattr(self, name):g} is shorter than audio.min_s={self.min_s:g}: no clip would be left"
                )


FIRST_AUDIO_FIELDS = ("resampler", "trim_db", "crop_s", "fixed_s", "min_s", "max_s")
"""The fields that AudioConfig had, in order, when digests hashed all fields: caches and tables of that version have
such digests."""


@dataclass(frozen=True, kw_only=True)
class FoldsConfig:
    """How speakers are assigned to folds; no speaker is ever in two."""

    kind: Literal["published", "consecutive", "grouped", "column"] = "published"
    """published: EmoBox's six folds of four RAVDESS actors; consecutive: speakers in order, equal
    runs; grouped: computed, balanced in clips and classes, for any corpus; column: the data says it
    (data.split_column, IEMOCAP's sessions), num_folds different values in their order."""
    num_folds: int = 6
    """Number of folds; the published ones are six."""

    def __post_init__(self) -> None:
        at_least("folds", self, 2, "num_folds")
        if self.kind == "published" and self.num_folds != 6:
            raise UserError(
                f"folds.num_folds must be 6 for the published folds, got {self.num_folds}; "
                "use --folds.kind grouped or consecutive for another number"
            )


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """The split into clips that train, clips that decide when to stop (val), and clips that are scored once, at the end (test)."""

    kind: Literal["auto", "column", "speakers", "fold"] = "auto"
    """column: the data says it (split_column; train.csv, val.csv, test.csv); speakers: drawn by seed, no
    speaker in two; fold: one of the folds is the test split; auto is column where there is one, else speakers."""
    val_fraction: float = 0.1
    """speakers: fraction of the speakers for val. Where the data has no val split, or with kind=fold, it is
    taken out of the speakers of train when training.patience_epochs or weights of a beam search (decode)
    ask for one."""
    test_fraction: float = 0.2
    """speakers: fraction of the speakers for test."""
    fold: int = 0
    """fold: the number of the fold that is the test split."""
    seed: int = 0
    """Seed of the draw, apart from the seed of training, so that seeds of training share a split."""

    def __post_init__(self) -> None:
        at_least("split", self, 0, "fold", "seed")
        fraction("split", self, "val_fraction", "test_fraction")
        if self.val_fraction + self.test_fraction >= 1:
            raise UserError(
                f"split.val_fraction + split.test_fraction must be below 1, got {self.val_fraction} + {self.test_fraction}"
            )


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The cache of the outputs of frozen parts, for all trials, folds, epochs and later runs."""

    uri: str = "~/.cache/w2v2"
    """A folder that all workers see, or a gs:// prefix."""
    dtype: Literal["float32", "float16"] = "float32"
    """float16 halves the space; scores then agree to its rounding only."""
