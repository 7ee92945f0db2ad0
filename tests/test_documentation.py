"""Pages of the API are made from the docstrings of every module without a warning."""

import subprocess
import sys
from pathlib import Path

from tests import ROOT

COMMAND = (
    sys.executable,
    "-W",
    "always::UserWarning",
    "-W",
    "always::RuntimeWarning",
    "-m",
    "pdoc",
    "-d",
    "google",
)


def test_a_page_of_every_module_is_made_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run([*COMMAND, "w2v2", "-o", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "arn" in line and "pdoc" in line]
    assert not lines, done.stderr
    modules = {path for path in (ROOT / "w2v2").rglob("*.py") if path.stem != "__init__"}
    for path in modules:
        page = tmp_path / path.relative_to(ROOT).with_suffix(".html")
        assert page.exists(), page
