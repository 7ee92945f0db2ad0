"""Which sessions of a command a run is the work of: giving it again never makes metrics.json or the page poorer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from w2v2.machine import describe_run
from w2v2.storage import files as storage

MAX_LATER = 20


def with_sessions(run: str, metrics: Mapping[str, Any], *, same: Sequence[str] = ()) -> dict[str, Any]:
    """The metrics with `made`, when and where they were made.

    Where the run directory has metrics.json of an earlier session, `made` and `seconds` are that session's: it did the
    work, and one that finds it done would show a few seconds on another machine. What later sessions took is in
    `later_sessions`, oldest first, and the first one's `trunk` in `first_trunk`. same names what must be equal in both for the earlier one to be of the
    same work, where the run directory itself does not hold it to its settings.
    """
    made = describe_run()
    earlier = _earlier(run)
    now = {"job": metrics["job"], **{name: json.loads(json.dumps(metrics[name])) for name in same}}
    if "made" not in earlier or any(earlier.get(name) != value for name, value in now.items()):
        return {**metrics, "made": made}
    later = [*earlier.get("later_sessions", []), {"made": made, "seconds": metrics["seconds"]}]
    kept = {"made": earlier["made"], "seconds": earlier["seconds"], "later_sessions": later[-MAX_LATER:]}
    if "trunk" in earlier:
        kept["first_trunk"] = earlier.get("first_trunk", earlier["trunk"])
    return {**metrics, **kept}


def _earlier(run: str) -> dict[str, Any]:
    """metrics.json of an earlier session; empty where there is none that can be read."""
    try:
        metrics = json.loads(storage.read_text(storage.join(run, "metrics.json")))
    except (storage.NotFoundError, ValueError):
        return {}
    return metrics if isinstance(metrics, dict) else {}
