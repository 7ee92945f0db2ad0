"""The page and the numbers of a run directory of one model, as a reader has them."""

import html
import json
import re
from pathlib import Path


def text_of(folder: Path) -> str:
    page = (folder / "report.html").read_text()
    body = page[page.index("<body>") :]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def metrics_of(folder: Path):
    return json.loads((folder / "metrics.json").read_text())
