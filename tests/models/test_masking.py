"""Masks, negatives and noise depend on seed, epoch and clip alone, and have the distributions that they should."""

import numpy as np
import pytest
from scipy.stats import chisquare

from w2v2.config.pretrain import MaskConfig
from w2v2.errors import UserError
from w2v2.models.masking import VALIDATION, clip_generator, crop_start, draw_clip, gumbel_noise

DIGEST = "00ff" * 8


def test_draws_depend_on_seed_epoch_and_clip_alone():
    def drawn(*key) -> tuple[bytes, bytes]:
        draw = draw_clip(120, MaskConfig(), clip_generator(*key))
        return draw.masked.tobytes(), draw.negatives.tobytes()

    keys = [(0, 0, DIGEST), (1, 0, DIGEST), (0, 1, DIGEST), (0, 0, "ab" * 16), (0, VALIDATION, DIGEST)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert drawn(*keys[0]) == drawn(*keys[0])


@pytest.mark.parametrize("num_frames", [11, 12, 19, 20, 21, 30, 500])
def test_negatives_are_other_masked_frames_of_the_clip(num_frames):
    for seed in range(50):
        draw = draw_clip(num_frames, MaskConfig(), clip_generator(seed, 0, DIGEST))
        count = int(draw.masked.sum())
        assert 10 <= count < num_frames and len(draw.masked) == num_frames
        assert draw.negatives.shape == (count, 100)
        assert draw.negatives.min() >= 0 and draw.negatives.max() < count
        assert (draw.negatives != np.arange(count)[:, None]).all()
        # Guessing finds one of the frames that there are, each counted once.
        expected = sum(1 / len({number, *row}) for number, row in enumerate(draw.negatives.tolist()))
        assert draw.chance_hits == pytest.approx(expected)


def test_half_of_a_long_clip_is_masked_in_whole_spans():
    shares = []
    for seed in range(200):
        masked = draw_clip(500, MaskConfig(), clip_generator(seed, 0, DIGEST)).masked
        edges = np.flatnonzero(np.diff(np.concatenate([[0], masked, [0]])))
        assert (edges[1::2] - edges[::2] >= 10).all()
        shares.append(masked.mean())
    assert np.mean(shares) == pytest.approx(0.49, abs=0.01)


def test_negatives_are_uniform():
    mask = MaskConfig(start_probability=0.065, span=10, num_negatives=100)
    draw = draw_clip(21, mask, clip_generator(3, 0, DIGEST))  # one or two spans
    count = len(draw.negatives)
    counts = np.zeros((count, count))
    for seed in range(300):
        rng = clip_generator(seed, 0, DIGEST)
        other = draw_clip(21, mask, rng)
        if len(other.negatives) == count:
            np.add.at(counts, (np.arange(count)[:, None], other.negatives), 1)
    others = counts[~np.eye(count, dtype=bool)]
    assert chisquare(others).pvalue > 0.001
    assert chisquare(others * np.linspace(0.9, 1.1, others.size)).pvalue < 0.001  # so the test can fail


def test_noise_is_gumbel_and_finite_where_a_draw_is_zero():
    noise = gumbel_noise((1000, 2, 100), np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, rel=0.02)

    class Zeros(np.random.Generator):
        def standard_exponential(self, size=None, dtype=np.float64, **_):
            return np.zeros(size, dtype=dtype)

    assert np.isfinite(gumbel_noise((3, 2, 5), Zeros(np.random.PCG64()))).all()


def test_crops_start_anywhere_and_short_clips_are_whole():
    rng = np.random.default_rng(0)
    starts = {crop_start(13, 10, rng) for _ in range(200)}
    assert starts == {0, 1, 2, 3}
    assert crop_start(10, 10, rng) == 0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(span=1), "mask.span must be at least 2"),
        (dict(start_probability=1.0), r"mask.start_probability must be in \(0, 1\), got 1.0"),
        (dict(num_negatives=0), "mask.num_negatives must be at least 1"),
    ],
)
def test_masks_that_cannot_be_are_refused(settings, words):
    with pytest.raises(UserError, match=words):
        MaskConfig(**settings)
