"""Frames of overlapping windows as those of one recording."""

import numpy as np
import pytest
import soundfile
import torch
from transformers import Wav2Vec2Model

from w2v2.audio.synthesis import SAMPLE_RATE_HZ, synthesize_sentence
from w2v2.config.data import AudioConfig
from w2v2.config.model import EncoderConfig, HeadConfig
from w2v2.config.text import TextConfig
from w2v2.data.text import vocabulary_of
from w2v2.inference.prediction import predict_clips
from w2v2.inference.transcription import join_frames
from w2v2.models.ctc import Transcriber
from w2v2.models.encoder import Encoder
from w2v2.models.model_info import ModelInfo
from w2v2.models.pretrained import tiny_config
from w2v2.models.saved_model import SavedModel


@pytest.mark.parametrize("num_frames", [7, 10, 11, 16, 17, 23, 40])
@pytest.mark.parametrize(("window", "hop"), [(10, 6), (10, 9), (9, 4)])
def test_each_frame_of_the_recording_is_kept_once(num_frames, window, hop):
    frames = np.arange(num_frames, dtype=np.float32)[:, None]
    starts = [0]
    while starts[-1] + window < num_frames:
        starts.append(starts[-1] + hop)
    joined = join_frames([frames[at : at + window] for at in starts], hop=hop)
    np.testing.assert_array_equal(joined, frames)


def test_a_frame_is_taken_from_the_window_in_which_it_is_farther_from_an_edge():
    first, second = np.zeros((10, 1), np.float32), np.ones((10, 1), np.float32)
    np.testing.assert_array_equal(join_frames([first, second], hop=6)[:, 0], [0.0] * 8 + [1.0] * 8)


def model_of_short_context():
    """A model whose attention adds nothing, so that a frame depends on a quarter of a second around it; it writes much."""
    torch.manual_seed(2)
    stock = Wav2Vec2Model(tiny_config())
    with torch.no_grad():
        for layer in stock.encoder.layers:
            layer.attention.out_proj.weight.zero_()
            layer.attention.out_proj.bias.zero_()
    encoder = Encoder(stock, EncoderConfig(pooling="none"), normalize=False)
    vocabulary = vocabulary_of(["kids and dogs by"], TextConfig())
    model = Transcriber(encoder, HeadConfig(), num_outputs=len(vocabulary.tokens)).eval()
    noise = torch.randn(1, 8000)
    with torch.no_grad():
        states, _ = encoder(noise, torch.tensor([8000]))
        line = model.head.layers[-1]
        line.weight.normal_().mul_(4 / states[0].std(0).mean())
        line.bias.copy_(-line.weight @ states[0].mean(0))
    info = ModelInfo(
        kind="transcript",
        groups=(vocabulary.tokens,),
        audio=AudioConfig(),
        encoder=encoder.config,
        head=HeadConfig(),
        normalize=False,
        text=TextConfig(),
        vocabulary=vocabulary,
    )
    return SavedModel(model=model, info=info, digest="")


def test_clips_in_one_recording_are_written_in_windows_as_they_are_alone(tmp_path):
    """No word is lost, changed or written twice, wherever the windows are cut."""
    saved = model_of_short_context()
    rate = SAMPLE_RATE_HZ
    sounds = [synthesize_sentence(n, ["kids", "by", "dogs"], "neutral", seed=n) for n in range(1, 7)]
    silence = np.zeros(round(0.6 * rate))
    padded = [np.concatenate([silence, sound, silence]) for sound in sounds]
    frame = round(saved.model.encoder.frame_s * rate)
    padded = [sound[: len(sound) // frame * frame] for sound in padded]  # all on one grid of frames
    places = [tmp_path / f"{number}.wav" for number in range(len(padded) + 1)]
    for place, sound in zip(places, [*padded, np.concatenate(padded)], strict=True):
        soundfile.write(place, sound, rate, subtype="FLOAT")
    clips = [
        {"clip_id": place.name, "uri": str(place), "start_s": 0.0, "end_s": float("inf")} for place in places
    ]

    def writes(clips, **windows):
        return [one.transcript for one in predict_clips(clips, saved, num_readers=2, **windows)]

    *alone, whole = writes(clips)
    assert len(whole.text) > 40 and len(set(whole.text)) > 5
    for window_s, hop_s in ((2.0, 0.0), (3.0, 0.0), (2.5, 1.1)):
        (windowed,) = writes(clips[-1:], window_s=window_s, hop_s=hop_s)
        assert windowed.text == whole.text
        assert [word.start_s for word in windowed.words] == [word.start_s for word in whole.words]
    # Away from the silent ends of the clips the words are those of the clips alone, at their times.
    offset_s, num_compared = 0.0, 0
    for sound, one in zip(padded, alone, strict=True):
        length_s = len(sound) / rate
        inner = [word for word in one.words if word.start_s > 0.4 and word.end_s < length_s - 0.4]
        here = {round(word.start_s - offset_s, 6): word.text for word in whole.words}
        assert {round(word.start_s, 6): word.text for word in inner}.items() <= here.items()
        offset_s, num_compared = offset_s + length_s, num_compared + len(inner)
    assert num_compared > 10
