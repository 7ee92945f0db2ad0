"""Portions of clips, one to a task."""

from w2v2.cluster.chunks import chunks_of


def test_chunks_are_of_8_to_64_items_and_keep_their_order():
    for num_items in (0, 1, 7, 100, 1_000, 10_001):
        items = list(range(num_items))
        chunks = chunks_of(items, num_at_once=4)
        assert [item for chunk in chunks for item in chunk] == items
        assert all(8 <= len(chunk) <= 64 for chunk in chunks[:-1])
    assert [len(chunk) for chunk in chunks_of(range(10), num_at_once=2, size=4)] == [4, 4, 2]
