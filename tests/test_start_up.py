"""What a command imports before it computes: no torch, no matplotlib."""

import subprocess
import sys

from tests import ROOT

WITHOUT_TORCH = (
    "config.command_line",
    "config.data",
    "config.model",
    "config.tune_folds",
    "config.extract_embeddings",
    "config.finetune",
    "config.baseline",
    "data.folds",
    "data.manifest",
    "data.splits",
    "evaluation.classification",
    "evaluation.multi_label",
    "evaluation.regression",
    "evaluation.scores",
    "reports.checks",
    "reports.model_figures",
    "reports.model_page",
    "reports.model_sections",
    "reports.page",
    "reports.plots.search",
    "reports.plots.vectors",
    "reports.run_files",
    "reports.tune_findings",
    "reports.tune_page",
    "search.study",
    "storage.files",
)


def printed(code: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_what_needs_no_tensors_does_not_wait_for_torch():
    names = ", ".join(f"w2v2.{module}" for module in WITHOUT_TORCH)
    heavy = "['torch', 'transformers', 'ray', 'gcsfs', 'google.cloud.bigquery', 'librosa']"
    assert printed(f"import {names}, sys; print([name for name in {heavy} if name in sys.modules])") == "[]"


def test_a_job_does_not_wait_for_what_draws_its_page():
    """Checks, findings and blocks are analysis: neither matplotlib nor jinja2 is imported before a page is drawn."""
    modules = ("checks", "estimate", "page", "run_files", "shared_sections", "tune_findings", "tune_sections")
    names = ", ".join(f"w2v2.reports.{module}" for module in modules)
    code = f"import w2v2.results.tune_folds, {names}, sys; print([n for n in ('matplotlib', 'jinja2') if n in sys.modules])"
    assert printed(code) == "[]"
