"""The floors of the package: a module imports only from the modules listed before it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ORDER = [
    # settings and bytes
    "config", "model_config", "tune_config", "extract_config", "finetune_config", "baseline_config", "cli_errors", "cli", "uris", "local_files", "gs_files", "storage",
    # pure
    "clip_rows", "csv_text", "audio_files", "ravdess", "clips_csv", "recordings", "clinic", "deam", "manifest",
    "clip_files", "leaks", "folds", "splits", "metrics", "metrics_multi", "metrics_regression", "task_scores", "schedules", "search",
    # tensors, no I/O
    "heap", "pooling", "cut", "linear", "device", "convolutions", "encoder", "heads", "losses", "tasks", "optim",
    # clips and what is computed of them once
    "audio", "prepared", "audio_index", "descriptors", "talkers", "demo", "clips", "weights", "feature_cache", "features", "descriptor_cache", "augment",
    # tables
    "table_spec", "table_sql", "table_parts", "records", "table_parquet", "table_duckdb", "table_bigquery_jobs", "table_bigquery", "tables",
    # vectors in tables
    "reading", "embedding", "extraction", "reject_rows",
    # loops, no Ray
    "fold_score", "baseline", "world", "logits", "fitting", "training", "trial", "checkpoint", "trained_on", "model_info", "model_folder", "said", "inference", "predictions", "predicted", "ledger", "summary",
    # the run directory
    "progress", "rundir", "corpus", "beside", "plots", "search_plots", "page", "tune_run", "findings", "tune_sections", "report", "outcome", "extract_report",
    "task_run", "task_plots", "task_figures", "task_sections", "task_report", "finetune_outcome", "baseline_outcome",
    # this against the usual tools
    "bench_config", "bench_result", "bench_process", "bench_clips", "bench_encoder", "bench_loop", "bench_extract", "bench_trainer",
    "bench_recomputed", "bench_search", "bench_train", "bench_decode", "bench_reading", "bench_memory", "bench_startup", "bench_report",
    # the cluster
    "ray_cluster", "ray_features", "ray_baseline", "ray_train", "ray_tune", "ray_finetune", "ray_predict", "ray_embed",
]  # fmt: skip
CLOUD_CLIENTS = {"gcsfs", "google"}
# bench_reading compares with Google's own client.
CLOUD_DOORS = {"gs_files", "table_bigquery", "table_bigquery_jobs", "tables", "bench_reading"}
WITHOUT_TORCH = [
    "cli", "config", "model_config", "tune_config", "extract_config", "finetune_config", "baseline_config", "findings", "folds", "splits", "manifest", "metrics", "metrics_multi", "metrics_regression", "page", "plots", "report", "schedules", "search",
    "search_plots", "storage", "task_figures", "task_plots", "task_report", "task_run", "task_scores", "task_sections", "tune_run",
]  # fmt: skip


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports anywhere, in functions too; `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module=module, level=level):
                assert level == 0, f"{path.name}: relative import"
                yield from (f"{module}.{alias.name}" for alias in node.names)


def top_level(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def files() -> list[Path]:
    return sorted(path for path in (ROOT / "w2v2").glob("**/*.py") if path.name != "__init__.py")


def test_every_module_has_its_place():
    assert sorted(path.stem for path in files()) == sorted(ORDER)
    assert (ROOT / "w2v2/__init__.py").read_text() == ""


@pytest.mark.parametrize("module", ORDER)
def test_a_module_imports_only_from_those_before_it(module):
    below = set(ORDER[: ORDER.index(module)])
    names = {name.split(".")[1] for name in imported(ROOT / f"w2v2/{module}.py") if name.startswith("w2v2.")}
    assert names <= below, f"{module} imports {sorted(names - below)}, which stand after it"


def test_ray_is_imported_in_ray_modules_and_jobs_alone():
    users = {path.stem for path in files() if "ray" in top_level(path)}
    assert users <= {module for module in ORDER if module.startswith("ray_")}


def test_cloud_clients_are_imported_behind_their_doors_alone():
    users = {path.stem for path in files() if CLOUD_CLIENTS & top_level(path)}
    assert users and users <= CLOUD_DOORS
    assert not [path.name for path in (ROOT / "jobs").glob("*.py") if CLOUD_CLIENTS & top_level(path)]


def test_what_needs_no_tensors_does_not_wait_for_torch():
    names = ", ".join(f"w2v2.{module}" for module in WITHOUT_TORCH)
    heavy = "['torch', 'transformers', 'ray', 'gcsfs', 'google.cloud.bigquery', 'librosa']"
    code = f"import {names}, sys; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_a_job_does_not_wait_for_matplotlib():
    code = "import w2v2.outcome, w2v2.tune_run, sys; print('matplotlib' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"


def test_jobs_import_no_module_that_is_not_listed():
    for path in sorted((ROOT / "jobs").glob("*.py")):
        names = {name.split(".")[1] for name in imported(path) if name.startswith("w2v2.")}
        assert names <= set(ORDER), path.name
