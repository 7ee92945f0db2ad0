"""jobs/tune_folds.py where heads alone are trained: what the cache has needs neither Ray nor transformers."""

import json
import subprocess
import sys
from dataclasses import replace

from tests import ROOT
from tests.jobs.searches import make_config
from w2v2.config import command_line
from w2v2.config.model import EncoderConfig
from w2v2.jobs import tune_folds

AGAIN = """
import sys
from w2v2.jobs import tune_folds
from w2v2.config import command_line
code = command_line.run_job(tune_folds.main, tune_folds.TuneFoldsConfig, sys.argv[1:])
print(code, [name for name in ("ray", "transformers") if name in sys.modules])
"""


def test_what_the_cache_has_is_searched_without_ray(tmp_path, corpus, ray_session):
    config = make_config(tmp_path, corpus, encoder=EncoderConfig(train="head"))
    first = tune_folds.main(config)
    assert first["trunk"]["clip_forwards"] == 192
    again = replace(config, run=str(tmp_path / "again"))
    (tmp_path / "again.yaml").write_text(command_line.dump(again))
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, "--config", str(tmp_path / "again.yaml")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "all 192 clips are in the cache" in done.stdout + done.stderr
    second = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert second["trunk"] == {"clip_forwards": 0, "num_clips": 192, "reused": 192}
    for name in ("pooled", "params", "trial", "folds"):
        assert second[name] == first[name]
