"""Pages of the API are made from the docstrings of every module without a warning, by the line that the README gives."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import ROOT


@pytest.mark.slow
def test_a_page_of_every_module_is_made_without_a_warning(tmp_path: Path) -> None:
    [line] = re.findall(r"<!-- api -->\n```bash\n(.*)\n```", (ROOT / "README.md").read_text())
    pdoc = f"{sys.executable} -W always::UserWarning -W always::RuntimeWarning -m pdoc"
    line = line.replace(".venv/bin/pdoc", pdoc).replace("-o api", f"-o {tmp_path}")
    done = subprocess.run(["sh", "-c", line], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Warn:" not in done.stderr, done.stderr
    modules = [path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "w2v2").glob("*/**/*.py")]
    missing = [page for page in modules if page.stem != "__init__" and not (tmp_path / page).exists()]
    assert len(modules) > 200 and not missing
