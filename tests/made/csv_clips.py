"""CSV files of clips, and what is read of them."""

from w2v2.config.data import DataConfig
from w2v2.data import manifest


def csv_file(tmp_path, text, name="clips.csv", encoding="utf-8"):
    """The path of a CSV file with this text."""
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return str(path)


def read_csv(tmp_path, text, **data):
    """The manifest of a CSV with this text."""
    return manifest.read(DataConfig(uri=csv_file(tmp_path, text), **data))


def reasons(result):
    """The reason of each reject by clip_id."""
    return dict(zip(result.rejects["clip_id"].to_pylist(), result.rejects["reason"].to_pylist(), strict=True))
