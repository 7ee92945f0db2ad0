"""The sessions of a run: the same command given again keeps the date, machine and time of the session that did the work."""

import json
from collections.abc import Mapping, Sequence

from w2v2.json_types import Json, JsonObject
from w2v2.machine import describe_run
from w2v2.storage import files as storage
from w2v2.storage import run_directory

MAX_LATER = 20


def with_sessions(run: str, metrics: Mapping[str, Json], *, same: Sequence[str] = ()) -> dict[str, Json]:
    """The metrics with `made`, when and where they were made.

    Where the run directory has metrics.json of an earlier session, which did the work, its `made` and `seconds` are
    kept. `later_sessions` lists the later ones, oldest first, and `first_trunk` has the `trunk` of the first.
    `same` names the metrics that must be equal for the earlier session to have done the same work, in jobs whose run
    directory accepts other settings.
    """
    made = describe_run()
    earlier = _earlier(run)
    now = {"job": metrics["job"], **{name: json.loads(json.dumps(metrics[name])) for name in same}}
    if "made" not in earlier or any(earlier.get(name) != value for name, value in now.items()):
        return {**metrics, "made": made}
    later = [*earlier.get("later_sessions", []), {"made": made, "seconds": metrics["seconds"]}]
    kept: dict[str, Json] = {
        "made": earlier["made"],
        "seconds": earlier["seconds"],
        "later_sessions": later[-MAX_LATER:],
    }
    if "trunk" in earlier:
        kept["first_trunk"] = earlier.get("first_trunk", earlier["trunk"])
    return {**metrics, **kept}


def _earlier(run: str) -> JsonObject:
    """metrics.json of an earlier session; empty where there is none that can be read."""
    try:
        return run_directory.read_metrics(run)
    except (storage.NotFoundError, storage.DamagedError):
        return {}
