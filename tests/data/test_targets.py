"""Labels as numbers."""

import numpy as np
import pyarrow as pa
import pytest

from w2v2.data.manifest import Manifest
from w2v2.data.targets import class_numbers, output_groups, target_array

CLIPS = pa.table(
    {"label": ["sad", "calm", "sad"], "target_a": [1.0, None, 0.0], "target_b": [0.5, 0.25, 2.0]}
)


def test_classes_are_positions_among_the_names():
    numbers = target_array(CLIPS, "classes", ["calm", "angry", "sad"])
    assert numbers.dtype == np.int64 and numbers.tolist() == [2, 0, 2]
    assert class_numbers([], ["a"]).dtype == np.int64
    with pytest.raises(KeyError, match="sad"):
        class_numbers(["sad"], ["calm"])


@pytest.mark.parametrize("kind", ["multi_label", "regression"])
def test_labels_and_values_are_columns_in_the_order_of_the_names(kind):
    values = target_array(CLIPS, kind, ["b", "a"])
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [[0.5, 1.0], [0.25, np.nan], [2.0, 0.0]])


def test_a_head_has_all_classes_or_a_group_of_the_data():
    corpus = Manifest(clips=CLIPS, rejects=CLIPS.slice(0, 0), groups=(("b",), ("a",)))
    assert output_groups(corpus, "classes") == (("calm", "sad"),)
    assert output_groups(corpus, "regression") == (("b",), ("a",))
