"""Logits of clips."""

import numpy as np
import pytest

from tests.training.made import LENGTHS, NUM_CLASSES, classifier, clip_set
from w2v2.features.batches import ClipSet
from w2v2.training.forward import predict_logits


@pytest.mark.parametrize(
    "settings", [dict(train="all"), dict(train="last", layer="mix"), dict(train="head")], ids=str
)
def test_logits_do_not_depend_on_order_or_batching(settings):
    model = classifier(dropout=0.1, **settings).train()
    clips = clip_set(model.encoder)
    logits = predict_logits(model, clips)
    assert logits.shape == (len(LENGTHS), NUM_CLASSES)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    order = np.random.default_rng(0).permutation(len(LENGTHS))
    turned = ClipSet(
        features=[clips.features[index] for index in order],
        lengths=clips.lengths[order],
        targets=clips.targets[order],
    )
    np.testing.assert_allclose(predict_logits(model, turned), logits[order], atol=1e-5)
    for index in range(len(LENGTHS)):
        alone = ClipSet(
            features=clips.features[index : index + 1],
            lengths=clips.lengths[index : index + 1],
            targets=clips.targets[index : index + 1],
        )
        np.testing.assert_allclose(predict_logits(model, alone)[0], logits[index], atol=1e-5)
