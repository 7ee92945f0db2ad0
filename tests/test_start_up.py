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
    "reports.html",
    "reports.model_figures",
    "reports.model_page",
    "reports.model_plots",
    "reports.model_run",
    "reports.model_sections",
    "reports.plots",
    "reports.search_plots",
    "reports.tune_findings",
    "reports.tune_page",
    "reports.tune_run",
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


def test_a_job_does_not_wait_for_matplotlib():
    code = "import w2v2.results.tune_folds, w2v2.reports.tune_run, sys; print('matplotlib' in sys.modules)"
    assert printed(code) == "False"
