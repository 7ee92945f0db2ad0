import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

from tests import ROOT
from w2v2.versions import W2V2, library_versions


def test_versions_are_those_of_what_is_installed():
    assert library_versions("numpy") == {"w2v2": version("w2v2"), "numpy": np.__version__}
    assert library_versions("no-such-library")["no-such-library"] == "unknown"


@pytest.mark.parametrize("module", ["results.tune_folds", "results.finetune", "results.baseline"])
def test_a_node_without_metadata_of_this_code_knows_its_version(module):
    """A node of a cluster has requirements.txt and the working directory; w2v2 is not installed there."""
    code = (
        "import importlib.metadata as m, sys; real = m.Distribution.from_name\n"
        "def from_name(name):\n"
        "    if name == 'w2v2': raise m.PackageNotFoundError(name)\n"
        "    return real(name)\n"
        "m.Distribution.from_name = from_name\n"
        f"import w2v2.{module}; from w2v2.versions import library_versions; print(library_versions('ray')['w2v2'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == W2V2
