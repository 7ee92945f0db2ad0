"""The places of a page's recordings, and which of them the page can play."""

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from w2v2.data.corpora.label_table import is_table
from w2v2.json_types import JsonObject
from w2v2.redaction import without_home
from w2v2.reports.blocks import Sound
from w2v2.reports.run_files import RunFiles
from w2v2.storage import files as storage

PLAYABLE = (".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".webm")
"""Suffixes of files that the common browsers decode."""


def corpus_name(data: JsonObject) -> str:
    """The name of the corpus in titles: RAVDESS or DEAM for these layouts, else the name of its folder or file."""
    uri = str(data.get("uri", ""))
    name = uri.rstrip("/").rpartition("/")[2]
    match data.get("layout", "auto"):
        case "deam":
            return "DEAM"
        case "ravdess":
            return _ravdess(data)
        case "auto" if "ravdess" in name.lower() and not is_table(name):
            return _ravdess(data)
    return "the built-in demo corpus" if uri == "demo" else without_home(name)


def _ravdess(data: JsonObject) -> str:
    channel = data.get("vocal_channel", "both")
    return "RAVDESS" if channel == "both" else f"RAVDESS {channel}"


def sounds(run: RunFiles, clip_ids: Sequence[str]) -> dict[str, Sound]:
    """The recordings of these clips by clip_id, with a player where the page may have one.

    Pages play files on the same disk, by a path relative to the page. They do not play clinical recordings, gs:// objects
    (a browser has no credentials for them), and files whose relative path would lead through a home directory.
    """
    is_clinical = run.config["data"].get("layout") == "clinic"
    columns = ["clip_id", "uri", "start_s", "end_s"]
    by_clip = {}
    wanted = pc.is_in(run.manifest["clip_id"], value_set=pa.array(clip_ids, pa.string()))
    for clip in run.manifest.select(columns).filter(wanted).to_pylist():
        source = "" if is_clinical else source_of(clip["uri"], run.uri, clip["start_s"], clip["end_s"])
        by_clip[clip["clip_id"]] = Sound(clip["uri"], source)
    return by_clip


def source_of(uri: str, run: str, start_s: float | None, end_s: float | None) -> str:
    """The path of a local recording relative to the run directory, with its segment; "" where none can be given.

    A segment is a media fragment (https://www.w3.org/TR/media-frags/, section 4.2.1).
    """
    if storage.is_remote(uri) or storage.is_remote(run) or not uri.lower().endswith(PLAYABLE):
        return ""
    path = os.path.relpath(uri, run)
    if without_home(f"/{path.replace('../', '')}") != f"/{path.replace('../', '')}":
        return ""
    # A colon in the first name of a path would end a scheme.
    path = path if path.startswith("../") else f"./{path}"
    segment = _segment(start_s or 0.0, float("inf") if end_s is None else end_s)
    return path.replace("%", "%25").replace("#", "%23").replace("?", "%3F") + segment


def _segment(start_s: float, end_s: float) -> str:
    if end_s < float("inf"):
        return f"#t={start_s:g},{end_s:g}"
    return f"#t={start_s:g}" if start_s else ""
