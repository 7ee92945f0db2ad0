"""Rows of rejects.parquet, one with a name that means something to HTML."""

HOSTILE = "<script>alert(1)</script>.wav"


def reject_rows(other_clip: str) -> list[dict[str, str]]:
    """A clip that is no audio, with a hostile name, and another that is too short."""
    return [
        {
            "clip_id": HOSTILE,
            "uri": f"gs://b/{HOSTILE}",
            "reason": "not audio: no header",
            "kind": "not audio",
            "detail": "no header",
        },
        {
            "clip_id": other_clip,
            "uri": "gs://b/x.wav",
            "reason": "too short: 0.04 s < audio.min_s 0.1",
            "kind": "too short",
            "detail": "0.04 s < audio.min_s 0.1",
        },
    ]
