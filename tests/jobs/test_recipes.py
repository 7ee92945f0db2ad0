"""jobs/recipes/*.yaml: each says what it reproduces, is read by its job, and runs in small."""

import re
from pathlib import Path

import duckdb
import jaxtyping
import pytest
import yaml

from tests import ROOT
from tests.made.corpora import clinic_corpus, deam_corpus, labelled_csv, sentences_csv
from w2v2.config import command_line
from w2v2.config.baseline import BaselineConfig, SvmConfig
from w2v2.config.compare import CompareConfig
from w2v2.config.data import CacheConfig, DataConfig, FoldsConfig
from w2v2.config.digest import differences
from w2v2.config.export import ExportConfig
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import EvaluateConfig, FinetuneConfig, PredictConfig
from w2v2.config.model import EncoderConfig, TrainingConfig
from w2v2.config.pretrain import PretrainConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.jobs import (
    baseline,
    compare,
    evaluate,
    export,
    extract_embeddings,
    finetune,
    predict,
    pretrain,
    tune_folds,
)

RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))
JOBS = {
    "tune_folds": (tune_folds, TuneFoldsConfig),
    "finetune": (finetune, FinetuneConfig),
    "evaluate": (evaluate, EvaluateConfig),
    "predict": (predict, PredictConfig),
    "export": (export, ExportConfig),
    "extract_embeddings": (extract_embeddings, ExtractConfig),
    "pretrain": (pretrain, PretrainConfig),
    "baseline": (baseline, BaselineConfig),
    "compare": (compare, CompareConfig),
}
PLACES = {"run", "data.uri", "table", "model", "cache.uri"}
HEADINGS = ("Run", "Reproduces", "Source", "Cost", "Expected")
by_name = pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)


def comment_of(recipe: Path) -> dict[str, str]:
    """The first comment lines, by heading."""
    lines = []
    for line in recipe.read_text().splitlines():
        if not line.startswith("#"):
            break
        lines.append(line[2:])
    parts = re.split(r"(?:^|\n)(\w+): ", "\n".join(lines))
    return {name: " ".join(text.split()) for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def job_of(recipe: Path):
    """The job that the recipe is for, and the class of its settings."""
    match = re.match(r"python jobs/(\w+)\.py --config jobs/recipes/(\S+) ", comment_of(recipe)["Run"])
    assert match and match[2] == recipe.name
    return JOBS[match[1]]


def test_every_kind_of_job_has_a_recipe():
    assert {job_of(recipe)[0].__name__.rpartition(".")[2] for recipe in RECIPES} == set(JOBS)


@by_name
def test_a_recipe_says_what_it_reproduces_what_it_costs_and_what_to_expect(recipe):
    comment = comment_of(recipe)
    assert tuple(comment) == HEADINGS
    assert all(len(text) > 40 for text in comment.values())


@by_name
def test_the_command_in_a_recipe_is_one_that_the_job_takes(recipe):
    words = comment_of(recipe)["Run"].split()[2:]
    config = command_line.parse(
        job_of(recipe)[1], [w if w != f"jobs/recipes/{recipe.name}" else str(recipe) for w in words]
    )
    alone = command_line.parse(type(config), ["--config", str(recipe)])
    assert differences(alone, config).keys() <= PLACES
    encoder = getattr(config, "encoder", EncoderConfig())
    assert encoder.name.startswith(("facebook/", "microsoft/", "tiny"))


def test_the_readme_names_every_recipe():
    table = (ROOT / "README.md").read_text()
    missing = [recipe.stem for recipe in RECIPES if f"`{recipe.stem}`" not in table]
    assert not missing, f"README.md does not name the recipes {missing}"


def test_the_settings_that_the_readme_shows_are_those_of_a_recipe():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "jobs" / "README.md").read_text(), re.DOTALL)
    shown = [tree for block in blocks if "encoder" in (tree := yaml.safe_load(block))]
    recipes = [yaml.safe_load(recipe.read_text()) for recipe in RECIPES]
    assert len(shown) >= 4
    for tree in shown:
        assert tree in recipes, f"jobs/README.md shows {tree}, which no file of jobs/recipes has"


SEARCH = ["--search.num_trials", "1", "--training.num_epochs", "1", "--encoder.num_last_layers", "1"]
SMALL = {
    "ravdess_search": SEARCH,
    "lora_search": SEARCH,
    "space_search": SEARCH,
    "own_csv_search": ["--search.num_trials", "1", "--training.num_epochs", "1", "--folds.num_folds", "2",
                       "--data.label_column", "label", "--data.speaker_column", "speaker"],
    "mlp_and_descriptors": ["--training.num_epochs", "1", "--head.widths", "[8]", "--data.classes", "{plain: tremor}"],
    "clinic_multi_label": ["--training.num_epochs", "1", "--encoder.num_last_layers", "1", "--data.studies", "[]"],
    "deam_regression": ["--training.num_epochs", "2"],
    "embeddings": [],
    "transcript": ["--training.num_epochs", "1"],
    "pretrain": ["--training.num_epochs", "1", "--encoder.train", "all", "--optim.batch_s", "10", "--training.on_collapse", "warn"],
    "baseline": ["--svm.c", "[1]", "--svm.gamma", "[0]"],
    "evaluate": ["--data.slice_columns", "[tremor]"],
    "predict": ["--data.layout", "csv", "--window_s", "0.5", "--hop_s", "0.25"],
}  # fmt: skip
ON_THE_BUILT_IN_CORPUS = ("ravdess_search", "space_search", "lora_search", "pretrain", "baseline")
OF_A_MODEL = ("evaluate", "predict", "export")
needs_data = pytest.mark.parametrize(
    "recipe", [path for path in RECIPES if path.stem in SMALL], ids=lambda path: path.stem
)


@pytest.fixture(scope="module")
def clips_csv(tmp_path_factory) -> Path:
    return labelled_csv(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="module")
def model(tmp_path_factory, clips_csv, ray_session) -> Path:
    """The model folder of a small fine-tuning, with the temperature that its val split gives."""
    folder = tmp_path_factory.mktemp("model")
    finetune.main(
        FinetuneConfig(
            run=str(folder / "run"),
            data=DataConfig(uri=str(clips_csv)),
            encoder=EncoderConfig(train="head"),
            training=TrainingConfig(num_epochs=1),
            cache=CacheConfig(uri=str(folder / "cache")),
        )
    )
    return folder / "run" / "model"


@pytest.mark.slow
@needs_data
def test_a_recipe_runs_in_small(recipe, tmp_path, corpus, clips_csv, request, ray_session):
    """With the built-in encoder, or a small model of it, and a small corpus of the same shape."""
    name = recipe.stem
    makers = {
        "clinic_multi_label": clinic_corpus,
        "deam_regression": deam_corpus,
        "transcript": sentences_csv,
    }
    data = corpus if name in ON_THE_BUILT_IN_CORPUS else clips_csv
    if name in makers:
        data = makers[name](tmp_path / "data")
    flags = ["--config", str(recipe), "--data.uri", str(data), *SMALL[name]]
    flags += ["--run", str(tmp_path / "run"), "--data.max_reject_fraction", "0.2"]
    job, config_class = job_of(recipe)
    if name in OF_A_MODEL:
        flags += ["--model", str(request.getfixturevalue("model"))]
    elif job is not baseline:
        flags += ["--encoder.name", "tiny"]
    if "cache" in config_class.__dataclass_fields__:
        flags += ["--cache.uri", str(tmp_path / "cache")]
    if job is predict:
        flags += ["--table", str(tmp_path / "run" / "predictions.csv")]
    config = command_line.parse(config_class, flags)
    metrics = job.main(config)
    assert (tmp_path / "run" / "report.html").exists()
    assert metrics["job"] == job.__name__.rpartition(".")[2]
    check(job, config, metrics)


def check(job, config, metrics):
    """What the job wrote is what the recipe asks for."""
    if job is extract_embeddings:
        with duckdb.connect(str(Path(config.run) / "embeddings.db"), read_only=True) as db:
            rows, layers = db.execute("SELECT count(*), count(DISTINCT layer) FROM embeddings").fetchone()
        assert rows == metrics["written"] * layers and layers == 3 and metrics["rejected"] == 0
    elif job is predict:
        assert metrics["num_rows"] > metrics["num_clips"] == 24
    elif job is evaluate:
        assert metrics["model"]["temperature"] > 0 and "tremor" in metrics["slices"]
    elif job is baseline:
        assert len(metrics["chosen"]) == 6 and metrics["pooled"]["uar"] > 2 / 8
    else:
        assert metrics["encoder"]["train"] == config.encoder.train
        assert metrics["encoder"]["name"] == "tiny"


@pytest.mark.slow
def test_the_recipe_of_an_export_runs_in_small(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # an exporter's lengths are symbols
    recipe = ROOT / "jobs" / "recipes" / "export.yaml"
    flags = ["--config", str(recipe), "--model", str(model), "--run", str(tmp_path / "run")]
    metrics = export.main(command_line.parse(ExportConfig, flags))
    assert metrics["largest_difference"] <= 1e-4 and (tmp_path / "run" / "model.onnx").exists()


@pytest.mark.slow
def test_the_recipe_of_a_comparison_runs_in_small(clips_csv, tmp_path):
    runs = [tmp_path / "mfcc", tmp_path / "energy"]
    for run in runs:
        baseline.main(
            BaselineConfig(
                run=str(run),
                local=True,
                data=DataConfig(uri=str(clips_csv)),
                folds=FoldsConfig(kind="grouped", num_folds=2),
                svm=SvmConfig(features=(run.name,), c=(1.0,), gamma=(0.0,), num_inner_folds=2),
                cache=CacheConfig(uri=str(tmp_path / "cache")),
            )
        )
    recipe = ROOT / "jobs" / "recipes" / "compare.yaml"
    flags = ["--config", str(recipe), "--runs", str([*map(str, runs)]), "--run", str(tmp_path / "compared")]
    metrics = compare.main(command_line.parse(CompareConfig, flags))
    assert {row["name"] for row in metrics["ranking"]} == {"mfcc", "energy"}
    assert (tmp_path / "compared" / "report.html").exists()
