"""Keys of metrics.json under the names that earlier versions gave them."""

from collections.abc import Mapping

from w2v2.json_types import JsonObject

_METRICS = {
    "heard_speakers": "speakers_seen_in_training",
    "heard_clips": "clips_seen_in_training",
    "heard_by_audio": "seen_as_audio_alone",
    "there": "in_table",
}
_ENCODER = {"heard": "seen_in_training"}


def with_present_names(metrics: JsonObject) -> JsonObject:
    """The metrics of a run with keys of earlier versions renamed to the present ones.

    >>> with_present_names({"heard_clips": 3, "encoder": {"name": "tiny", "heard": ""}})
    {'clips_seen_in_training': 3, 'encoder': {'name': 'tiny', 'seen_in_training': ''}}
    """
    renamed = _renamed(metrics, _METRICS)
    if isinstance(encoder := renamed.get("encoder"), Mapping):
        return {**renamed, "encoder": _renamed(encoder, _ENCODER)}
    return renamed


def _renamed(values: JsonObject, names: Mapping[str, str]) -> JsonObject:
    return {names.get(name, name): value for name, value in values.items()}
