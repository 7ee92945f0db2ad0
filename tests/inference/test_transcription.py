"""Frames of overlapping windows as those of one recording."""

import numpy as np
import pytest

from w2v2.inference.transcription import join_frames


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
