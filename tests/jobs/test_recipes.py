"""jobs/recipes/*.yaml: each says what it reproduces, is read by its job, and runs in small."""

import re
from pathlib import Path

import duckdb
import pytest
import yaml

from tests import ROOT
from tests.made.corpora import clinic_corpus, deam_corpus, labelled_csv, sentences_csv
from w2v2.config import command_line
from w2v2.config.extract_embeddings import ExtractConfig
from w2v2.config.finetune import FinetuneConfig
from w2v2.config.tune_folds import TuneFoldsConfig
from w2v2.jobs import extract_embeddings, finetune, tune_folds

RECIPES = sorted((ROOT / "jobs" / "recipes").glob("*.yaml"))
JOBS = {
    "tune_folds": (tune_folds, TuneFoldsConfig),
    "finetune": (finetune, FinetuneConfig),
    "extract_embeddings": (extract_embeddings, ExtractConfig),
}
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
    assert config.encoder.name.startswith(("facebook/", "microsoft/", "tiny"))
    assert command_line.parse(type(config), ["--config", str(recipe)]).encoder == config.encoder


def test_the_settings_that_the_readme_shows_are_those_of_a_recipe():
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "jobs" / "README.md").read_text(), re.DOTALL)
    shown = [tree for block in blocks if "encoder" in (tree := yaml.safe_load(block))]
    recipes = [yaml.safe_load(recipe.read_text()) for recipe in RECIPES]
    assert len(shown) >= 4
    for tree in shown:
        assert tree in recipes, f"jobs/README.md shows {tree}, which no file of jobs/recipes has"


SMALL = {
    "ravdess_search": ["--search.num_trials", "1", "--training.num_epochs", "1", "--encoder.num_last_layers", "1"],
    "lora_search": ["--search.num_trials", "1", "--training.num_epochs", "1", "--encoder.num_last_layers", "1"],
    "space_search": ["--search.num_trials", "1", "--training.num_epochs", "1", "--encoder.num_last_layers", "1"],
    "own_csv_search": ["--search.num_trials", "1", "--training.num_epochs", "1", "--folds.num_folds", "2",
                       "--data.label_column", "label", "--data.speaker_column", "speaker"],
    "mlp_and_descriptors": ["--training.num_epochs", "1", "--head.widths", "[8]", "--data.classes", "{plain: tremor}"],
    "clinic_multi_label": ["--training.num_epochs", "1", "--encoder.num_last_layers", "1", "--data.studies", "[]"],
    "deam_regression": ["--training.num_epochs", "2"],
    "embeddings": [],
    "transcript": ["--training.num_epochs", "1"],
}  # fmt: skip


@pytest.mark.slow
@by_name
def test_a_recipe_runs_in_small(recipe, tmp_path, corpus, ray_session):
    """With the built-in encoder and a small corpus of the same shape."""
    name = recipe.stem
    makers = {
        "clinic_multi_label": clinic_corpus,
        "deam_regression": deam_corpus,
        "transcript": sentences_csv,
    }
    make = makers.get(name, labelled_csv)
    data = corpus if name in ("ravdess_search", "space_search", "lora_search") else make(tmp_path / "data")
    flags = ["--config", str(recipe), "--encoder.name", "tiny", "--data.uri", str(data), *SMALL[name]]
    flags += ["--run", str(tmp_path / "run"), "--data.max_reject_fraction", "0.2"]
    job, config_class = job_of(recipe)
    if job is not extract_embeddings:
        flags += ["--cache.uri", str(tmp_path / "cache")]
    config = command_line.parse(config_class, flags)
    metrics = job.main(config)
    assert (tmp_path / "run" / "report.html").exists()
    if job is extract_embeddings:
        with duckdb.connect(str(tmp_path / "run" / "embeddings.db"), read_only=True) as db:
            rows, layers = db.execute("SELECT count(*), count(DISTINCT layer) FROM embeddings").fetchone()
        assert rows == metrics["written"] * layers and layers == 3 and metrics["rejected"] == 0
    else:
        assert metrics["encoder"]["train"] == config.encoder.train
        assert metrics["encoder"]["name"] == "tiny"
