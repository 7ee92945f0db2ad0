"""The limit on rejects above which a job ends, and its error message."""

import pyarrow as pa

from w2v2.data.corpora.ravdess import NOT_RAVDESS
from w2v2.data.rejects import commonest, kinds_of
from w2v2.errors import UserError
from w2v2.storage import run_directory


def check_number_of_rejects(
    num_clips: int, rejects: pa.Table, *, max_reject_fraction: float, run: str = ""
) -> None:
    """Raises UserError when there are no clips, or too many rejects (REJECTS); `<run>/rejects.parquet` is written before."""
    if run:
        run_directory.write_table(run, "rejects", rejects)
    num_rejects = len(rejects)
    num_all = num_clips + num_rejects
    if not num_all:
        raise UserError("nothing was found: no clip and no reject; look at data.uri and data.classes")
    shown = commonest(rejects, are_listed=bool(run)) if num_rejects else ""
    if not num_clips:
        all_were = "the only clip was" if num_rejects == 1 else f"all {num_rejects} clips were"
        raise UserError(f"{all_were} rejected: {shown}{_other_layout(rejects)}")
    if num_rejects / num_all > max_reject_fraction:
        raise UserError(
            f"{num_rejects} of {num_all} clips were rejected, more than the fraction "
            f"data.max_reject_fraction={max_reject_fraction:g}: {shown}; "
            f"fix these clips{_advice(rejects)} or raise --data.max_reject_fraction"
        )


def _other_layout(rejects: pa.Table) -> str:
    """What to do about a folder without RAVDESS's names, which layout `auto` takes for RAVDESS."""
    if NOT_RAVDESS not in kinds_of(rejects):
        return ""
    return (
        "; for a folder of other recordings give a table of its clips (--data clips.csv with the columns uri, label and "
        "speaker), or say which corpus it is (--data.layout)"
    )


def _advice(rejects: pa.Table) -> str:
    kinds = kinds_of(rejects)
    if "too long" in kinds:
        return ", use the beginning of long ones (--audio.crop_s 60), take longer ones (--audio.max_s)"
    return ", take shorter ones (--audio.min_s)" if "too short" in kinds else ""
