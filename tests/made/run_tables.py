"""The tables of a run directory, read back."""

from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq


def frame(run: Path, name: str) -> pd.DataFrame:
    """`<run>/<name>.parquet` as a DataFrame."""
    return pq.read_table(run / f"{name}.parquet").to_pandas()
