"""What made a model is known again, under its name or another, and nobody is named."""

import pyarrow as pa
import pytest

from w2v2.errors import UserError
from w2v2.models import provenance


def clips(**speakers: str) -> pa.Table:
    return pa.table({"speaker": list(speakers.values()), "audio_digest": list(speakers)})


@pytest.mark.parametrize(
    ("scored", "num_speakers", "num_clips", "words"),
    [
        (clips(d7="cleo", d8="dan"), 0, 0, ""),
        (
            clips(d7="ann", d8="dan"),
            1,
            0,
            "as for it, 1 of the speakers have the name of one in its training: IF THEY ARE THE SAME PEOPLE, this is no score of unseen speakers",
        ),
        (
            clips(d1="renamed", d2="renamed", d8="dan"),
            0,
            2,
            "2 of the clips TRAINED IT, so this is no score of unseen speakers",
        ),
        (
            clips(d1="ann", d2="bob", d3="ann"),
            2,
            3,
            "3 of the clips TRAINED IT, and 2 of the speakers have the name of one in its training, so this is no score of unseen speakers",
        ),
    ],
)
def test_names_and_samples_are_recognised(tmp_path, scored, num_speakers, num_clips, words):
    provenance.write(str(tmp_path), clips(d1="ann", d2="bob", d3="ann"), encoder="tiny")
    overlap = provenance.overlap(str(tmp_path), scored)
    assert (overlap.num_speakers, overlap.num_clips, overlap.caveat("it")) == (num_speakers, num_clips, words)
    assert bool(overlap) == bool(words)
    assert b"ann" not in (tmp_path / provenance.FILE).read_bytes()


def test_what_made_the_encoder_made_the_model_too(tmp_path, caplog):
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    provenance.write(first, clips(d1="ann"), encoder="facebook/wav2vec2-base")
    provenance.write(second, clips(d2="bob"), encoder=first)
    seen = provenance.overlap(second, clips(d1="x", d2="bob"))
    assert (seen.num_speakers, seen.num_clips) == (1, 2)
    assert provenance.encoder_overlap("facebook/wav2vec2-base", clips(d1="ann")) == {}
    assert (
        provenance.encoder_overlap(first, clips(d2="bob")) == {"seen_in_training": ""} and not caplog.messages
    )
    sentence = provenance.encoder_overlap(first, clips(d2="ann"))["seen_in_training"]
    assert (
        sentence.startswith("as for the encoder, 1 of the speakers have the name of one")
        and sentence in caplog.text
    )
    assert "TRAINED" not in sentence  # a name alone proves nothing


def test_a_damaged_or_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match=provenance.FILE):
        provenance.overlap(str(tmp_path), clips(d1="ann"))
    (tmp_path / provenance.FILE).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=rf"{provenance.FILE} cannot be read .*save the model again"):
        provenance.overlap(str(tmp_path), clips(d1="ann"))


def test_who_chose_the_settings_is_not_unseen(tmp_path, caplog):
    import pyarrow.parquet as pq

    pq.write_table(clips(d1="ann", d2="bob"), tmp_path / "manifest.parquet")
    run = str(tmp_path)
    assert provenance.tuning_caveat("", clips(d1="ann")) == ""
    assert provenance.tuning_caveat(run, clips(d7="cleo")) == "" and not caplog.messages
    words = f"in the search {run}, so this is NO SCORE OF SPEAKERS UNSEEN BY THE SEARCH"
    assert (
        provenance.tuning_caveat(run, clips(d1="x", d9="y"))
        == f"; but 1 of these clips chose the settings {words}"
    )
    assert words in provenance.tuning_caveat(run, clips(d9="ann"))
    assert "cannot be read" in provenance.tuning_caveat(f"{run}/gone", clips(d1="x"))
