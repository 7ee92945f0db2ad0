"""Case extract: vectors of clips, by w2v2, by the usual loop, and by single forwards, which are the reference."""

import logging
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from w2v2.benchmarks import synthetic_clips
from w2v2.benchmarks.config import BenchmarkConfig
from w2v2.benchmarks.encoders import encoder_folder, forward_flops, matrix_ceiling
from w2v2.benchmarks.processes import in_new_process, run_job
from w2v2.benchmarks.result import OURS, Agreement, CaseResult, Comparison, Rounds, alternate
from w2v2.benchmarks.transformers_loop import Loop, Padding, device, embed_files
from w2v2.config.data import DataConfig
from w2v2.config.extract_embeddings import ExtractConfig, VectorConfig
from w2v2.inference.embedding import encoder_config, pooled_vectors
from w2v2.models.pretrained import load_encoder

logger = logging.getLogger(__name__)

SINGLE = "loop, one clip at a time"
TO_10_S = "loop, padded to 10 s"
TO_LONGEST = "loop, padded to the longest"
PADDINGS: dict[str, Padding] = {TO_10_S: "10 s", TO_LONGEST: "longest", SINGLE: "single"}
MAX_DIFFERENCE = {"float32": 1e-5, "bf16": float("inf")}


def extract(config: BenchmarkConfig, scratch: Path) -> CaseResult:
    """Clips per second and agreement with single forwards, on RAVDESS's lengths and on heavy-tailed ones."""
    torch.set_num_threads(config.threads)
    folder = encoder_folder(config.encoder, scratch / "encoder", seed=config.seed)
    num_clips = config.extract.num_clips
    kinds = {
        "RAVDESS lengths": (synthetic_clips.ravdess_lengths_s(num_clips, seed=config.seed), TO_10_S, 3.5),
        "heavy-tailed lengths": (
            synthetic_clips.heavy_lengths_s(num_clips, seed=config.seed),
            TO_LONGEST,
            3.0,
        ),
    }
    ceiling = matrix_ceiling(device(), config.extract.precision)
    comparisons, agreements, notes = [], [], []
    for part, (lengths_s, peer, wanted) in kinds.items():
        clips = synthetic_clips.waveforms(lengths_s, seed=config.seed)
        sides = _sides(config, folder, clips, peer)
        rounds = alternate(sides, rounds=config.rounds_of("extract"), what=f"extract, {part}")
        comparisons.append(_compared(part, rounds, clips, {peer: wanted}))
        agreements += _agreements(part, rounds, MAX_DIFFERENCE[config.extract.precision])
        flops = forward_flops(folder, lengths_s)
        notes.append(
            f"{part}: {lengths_s.sum():.0f} s of audio, {flops / 1e9:.0f} GFLOP; {_rates(rounds, flops, ceiling)}"
        )
        if config.through_job:
            through = through_job(
                config, folder, clips, peer, scratch / part.split()[0], rounds=config.rounds_of("extract")
            )
            comparisons.append(_compared(f"{part}, whole command", through, clips, {}))
            agreements += _agreements(f"{part}, whole command", through, MAX_DIFFERENCE["float32"])
    return CaseResult(case="extract", comparisons=comparisons, agreements=agreements, notes=notes)


def _sides(
    config: BenchmarkConfig, folder: str, clips: list[np.ndarray], peer: str
) -> dict[str, Callable[[int], object]]:
    """Ours, the loop that is asked for, and single forwards, each after a first clip that warms it up."""
    sizes = config.extract
    encoder = load_encoder(encoder_config(VectorConfig(name=folder)), seed=config.seed)
    loop = Loop(folder, precision=sizes.precision)

    def ours(clips: list[np.ndarray]) -> Float[np.ndarray, "clips dim"]:
        made = pooled_vectors(
            encoder, clips, pooling="mean", batch_s=sizes.batch_s, precision=sizes.precision
        )
        return np.concatenate(made)

    def theirs(side: str) -> Callable[[int], Float[np.ndarray, "clips dim"]]:
        return lambda number: loop.vectors(clips, padding=PADDINGS[side], batch_size=sizes.batch_size)

    ours(clips[:1])
    loop.vectors(clips[:1], padding="single", batch_size=1)
    return {OURS: lambda number: ours(clips), peer: theirs(peer), SINGLE: theirs(SINGLE)}


def _compared(part: str, rounds: Rounds, clips: list[np.ndarray], wanted: dict[str, float]) -> Comparison:
    return Comparison(
        part=part,
        seconds=rounds.seconds,
        cpu_seconds=rounds.cpu_seconds,
        amount=len(clips),
        unit="clips",
        wanted=wanted,
    )


def _agreements(part: str, rounds: Rounds, at_most: float) -> list[Agreement]:
    """The difference of each side from single forwards, absolute and as an angle; ours must be small."""
    single = rounds.results[SINGLE][-1].astype(np.float64)
    agreements = []
    for side, results in rounds.results.items():
        if side == SINGLE:
            continue
        vectors = results[-1].astype(np.float64)
        cosine = (vectors * single).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(single, axis=1)
        numbers = {
            "max abs difference from single clips": (float(np.abs(vectors - single).max()), at_most),
            "largest 1 - cosine with single clips": (float(1 - cosine.min()), float("inf")),
        }
        agreements += [
            Agreement(
                part=part,
                side=side,
                what=measure,
                value=value,
                at_most=bound if side == OURS else float("inf"),
            )
            for measure, (value, bound) in numbers.items()
        ]
    spread = float(np.median(np.abs(single[1:] - single[:-1]).max(1))) if len(single) > 1 else float("nan")
    measure = "median of max abs differences between neighbouring clips"
    return [*agreements, Agreement(part=part, side=SINGLE, what=measure, value=spread)]


def _rates(rounds: Rounds, flops: float, ceiling: float) -> str:
    """FLOP/s that the forwards of the clips alone need, by side, as fractions of the matrix ceiling."""
    shares = [
        f"{side} {flops / statistics.median(seconds) / ceiling:.0%}"
        for side, seconds in rounds.seconds.items()
    ]
    return f"of the measured ceiling of matrix products, {ceiling / 1e12:.3g} TFLOP/s: {', '.join(shares)}"


# -- whole commands


def through_job(
    config: BenchmarkConfig,
    folder: str,
    clips: list[Float[np.ndarray, " _"]],
    peer: str,
    scratch: Path,
    *,
    rounds: int,
) -> Rounds:
    """`w2v2 extract-embeddings` on files against programs with the loop on the same files."""
    paths = synthetic_clips.write_wavs(scratch / "audio", clips)

    def ours(number: int) -> Float[np.ndarray, "clips dim"]:
        run = scratch / f"run-{number}"
        run_job("extract_embeddings", extraction_of(run, scratch / "audio", folder))
        return table_vectors(run / "embeddings.db")

    def theirs(side: str) -> Callable[[int], Float[np.ndarray, "clips dim"]]:
        sizes = config.extract
        args = (folder, paths, PADDINGS[side], sizes.batch_size, config.threads)
        return lambda number: in_new_process(embed_files, *args)

    sides = {OURS: ours, peer: theirs(peer), SINGLE: theirs(SINGLE)}
    return alternate(sides, rounds=rounds, what="extract, whole command")


def extraction_of(run: Path, audio: Path, encoder: str) -> ExtractConfig:
    """An extraction of a folder of files into a DuckDB file in the run directory."""
    return ExtractConfig(
        run=str(run),
        data=DataConfig(uri=str(audio), layout="files"),
        encoder=VectorConfig(name=encoder),
    )


def table_vectors(file: Path) -> Float[np.ndarray, "clips dim"]:
    """The vectors of an extraction's DuckDB file, in the order of the clips' names."""
    import duckdb

    with duckdb.connect(str(file), read_only=True) as connection:
        rows = connection.sql("select embedding from embeddings order by clip_id").fetchall()
    return np.array([row[0] for row in rows], dtype=np.float32)
