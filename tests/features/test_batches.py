"""Batches: every clip once, similar lengths together, an order that only seed and epoch decide."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from w2v2.features.batches import WINDOW_BATCHES, ClipSet, batches_by_budget, collate, shuffled_batches

LENGTHS = st.lists(st.integers(1, 5000), min_size=1, max_size=300).map(
    lambda values: np.array(values, dtype=np.int64)
)


@given(lengths=LENGTHS, batch_size=st.integers(1, 40), seed=st.integers(0, 2**40), epoch=st.integers(0, 1000))
def test_every_clip_once_an_epoch_in_full_batches_but_one(lengths, batch_size, seed, epoch):
    batches = shuffled_batches(lengths, batch_size=batch_size, seed=seed, epoch=epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    sizes = sorted((len(batch) for batch in batches), reverse=True)
    assert sizes[:-1] == [batch_size] * (len(lengths) // batch_size - (len(lengths) % batch_size == 0))
    assert 1 <= sizes[-1] <= batch_size


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.arange(97) % 13 + 1

    def order(seed: int, epoch: int) -> list[list[int]]:
        return [b.tolist() for b in shuffled_batches(lengths, batch_size=5, seed=seed, epoch=epoch)]

    first = order(3, 1)
    np.random.seed(0)
    torch.manual_seed(0)
    assert order(3, 1) == first
    others = [order(3, 2), order(4, 1), order(1, 3)]
    assert all(a != b for a, b in itertools.combinations([first, *others], 2))


def test_lengths_decide_only_which_clips_share_a_batch():
    """Clips of one length are batched as if shuffled: neither sorted nor in blocks of neighbours."""
    flat = np.concatenate(shuffled_batches(np.full(500, 7), batch_size=10, seed=0, epoch=0))
    assert abs(np.corrcoef(flat, np.arange(500))[0, 1]) < 0.2


def test_similar_lengths_share_a_batch():
    rng = np.random.default_rng(0)
    lengths = rng.integers(100, 5000, size=WINDOW_BATCHES * 4)
    batches = shuffled_batches(lengths, batch_size=4, seed=0, epoch=0)
    spans = sorted((lengths[batch].min(), lengths[batch].max()) for batch in batches)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))
    assert [int(lengths[b].max()) for b in batches] != sorted(int(lengths[b].max()) for b in batches)


def test_padding_stays_small_over_many_windows():
    lengths = np.random.default_rng(1).integers(100, 5000, size=4001)
    batches = shuffled_batches(lengths, batch_size=8, seed=0, epoch=0)
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded / lengths.sum() < 1.05


@given(lengths=LENGTHS, max_padded=st.integers(1, 20_000))
def test_budget_holds_every_clip_once(lengths, max_padded):
    batches = batches_by_budget(lengths, max_padded=max_padded)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for batch in batches:
        padded = len(batch) * int(lengths[batch].max())
        assert padded <= max_padded or len(batch) == 1
    for batch, following in itertools.pairwise(batches):
        assert lengths[batch].max() <= lengths[following].min()
        joined = (len(batch) + 1) * int(lengths[following[0]])
        assert joined > max_padded, "a batch was closed though the next clip had room"


@pytest.mark.parametrize("inner", [(), (3,), (2, 5)])
def test_collate_pads_with_zeros(inner):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(length, *inner)).astype(np.float16) for length in (4, 1, 7)]
    padded, lengths = collate(arrays)
    assert lengths.tolist() == [4, 1, 7]
    assert padded.dtype == torch.float32 and padded.shape == (3, 7, *inner)
    for row, array in zip(padded.numpy(), arrays, strict=True):
        np.testing.assert_array_equal(row[: len(array)], array)
        assert not row[len(array) :].any()


def test_collate_copies_what_cannot_be_written():
    array = np.arange(3, dtype=np.float32)
    array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        padded, _ = collate([array])
    padded += 1
    assert array.tolist() == [0, 1, 2]


def test_clip_set_selects_in_the_order_asked():
    arrays = [np.full(length, length, dtype=np.float32) for length in (2, 3, 5)]
    clips = ClipSet(features=arrays, lengths=np.array([2, 3, 5]), targets=np.array([0, 1, 0]))
    features, lengths = clips.select(np.array([2, 0]))
    assert len(clips) == 3
    assert lengths.tolist() == [5, 2]
    assert features.tolist() == [[5, 5, 5, 5, 5], [2, 2, 0, 0, 0]]
