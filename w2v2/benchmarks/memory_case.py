"""Case memory: the most memory that a job's processes hold, for little and for much work."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.extract_case import extraction_of
from w2v2.benchmarks.processes import run_job
from w2v2.benchmarks.result import Agreement, CaseResult
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.tune_folds import SearchConfig, TuneFoldsConfig

MAX_RATIO = 1.1
NUM_TUNE_CLIPS = 48


def memory(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Peak resident memory of `w2v2 extract-embeddings` by clips and of `w2v2 tune-folds` by trials."""
    agreements = [*_extractions(config, scratch), *_searches(config, scratch)]
    note = (
        "resident memory is summed over the driver, Ray's own processes and the workers, so pages that they share "
        "count more than once"
    )
    return CaseResult(case="memory", agreements=agreements, notes=[note])


def _extractions(config: BenchmarkConfig, scratch: Path) -> list[Agreement]:
    sizes = config.memory
    peaks: dict[int, list[int]] = {num: [] for num in sizes.num_clips}
    for number in range(config.rounds_of("memory")):
        for num in _in_turn(sizes.num_clips, number):
            audio = scratch / f"clips-{num}"
            if not audio.exists():
                synthetic_clips.write_short_clips(audio, num_clips=num, clip_s=sizes.clip_s, seed=config.seed)
            job = extraction_of(scratch / f"extract-{num}-{number}", audio, "tiny")
            peaks[num].append(run_job("extract_embeddings", job, watch_memory=True).peak_bytes)
    return _memory_agreements("extraction", "clips", peaks)


def _searches(config: BenchmarkConfig, scratch: Path) -> list[Agreement]:
    lengths_s = synthetic_clips.ravdess_lengths_s(NUM_TUNE_CLIPS, seed=config.seed)
    corpus = synthetic_clips.write_corpus(scratch / "corpus", lengths_s, seed=config.seed)
    peaks: dict[int, list[int]] = {num: [] for num in config.memory.num_trials}
    for number in range(config.rounds_of("memory")):
        for num in _in_turn(config.memory.num_trials, number):
            place = scratch / f"tune-{num}-{number}"
            job = small_search(corpus, place, num_trials=num, seed=config.seed)
            peaks[num].append(run_job("tune_folds", job, watch_memory=True).peak_bytes)
    return _memory_agreements("search", "trials", peaks)


def small_search(corpus: Path, place: Path, *, num_trials: int, seed: int) -> TuneFoldsConfig:
    """A search of 'tiny', two epochs a fold."""
    return TuneFoldsConfig(
        run=str(place / "run"),
        seed=seed,
        data=DataConfig(uri=str(corpus)),
        folds=FoldsConfig(kind="consecutive", num_folds=6),
        encoder=EncoderConfig(name="tiny", train="last", num_last_layers=1),
        training=TrainingConfig(num_epochs=2),
        # One at a time, so that more trials do not mean more workers.
        search=SearchConfig(
            num_trials=num_trials, pruning="none", num_startup_trials=num_trials, max_concurrent_trials=1
        ),
        cache=CacheConfig(uri=str(place / "cache")),
    )


def _in_turn(sizes: Sequence[int], number: int) -> Sequence[int]:
    return sizes if number % 2 == 0 else sizes[::-1]


def _memory_agreements(part: str, unit: str, peaks: dict[int, list[int]]) -> list[Agreement]:
    """Megabytes of each size, and the ratio of large to small: of the largest peaks, rounds aside."""
    (few, low), (many, high) = sorted(peaks.items())
    fields_of_all: list[dict[str, Any]] = [
        {"side": f"{num:,} {unit}", "what": "peak, MB", "value": max(values) / 1e6}
        for num, values in ((few, low), (many, high))
    ]
    ratio = max(high) / max(low)
    fields_of_all.append(
        {
            "side": f"{many:,} {unit}",
            "what": f"peak over that of {few:,}",
            "value": ratio,
            "at_most": MAX_RATIO,
        }
    )
    return [Agreement(part=part, **fields) for fields in fields_of_all]
