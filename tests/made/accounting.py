"""The sums of a finished run: log, metrics.json, page and rejects.parquet say the same of everything that was given."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq


def check_accounts(run: str | Path, log: str = "") -> dict[str, Any]:
    """The accounts of the run, after their sums were compared in all places that have them."""
    folder = Path(run)
    numbers = json.loads((folder / "metrics.json").read_text())["clips"]
    rejected, passed_over = (sum(numbers[what].values()) for what in ("rejected", "passed_over"))
    assert numbers["given"] == numbers["used"] + rejected + passed_over
    kinds = Counter(pq.read_table(folder / "rejects.parquet")["kind"].to_pylist())
    assert dict(kinds) == numbers["rejected"]
    if (folder / "manifest.parquet").exists():
        clips = pq.read_table(folder / "manifest.parquet")
        # That of an extraction lists the clips that could not be read, too.
        kinds_there = clips["reject_kind"].to_pylist() if "reject_kind" in clips.column_names else []
        assert len(clips) == numbers["used"] + sum(map(bool, kinds_there))
    if (folder / "report.html").exists():
        page = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", (folder / "report.html").read_text()))
        words = f"{numbers['given']} files and rows were given = {numbers['used']} used + {rejected} rejected + {passed_over} passed over."
        assert words in page
        for what in ("rejected", "passed_over"):
            for kind, num in numbers[what].items():
                assert f"{what.replace('_', ' ')} {kind} {num}" in page, kind
    if log:
        last = [line for line in log.splitlines() if " given = " in line][-1]
        assert f"{numbers['given']} given = {numbers['used']} used + {rejected}" in last
    return numbers
