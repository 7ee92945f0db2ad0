"""Encoders of the benchmarks, and their arithmetic counted."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Model

from w2v2.benchmarks import encoders


@pytest.mark.parametrize("num_samples", [16_000, 23_451])
def test_flops_are_those_that_torch_counts(group_norm, num_samples):
    model = Wav2Vec2Model.from_pretrained(group_norm, attn_implementation="eager").eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.randn(1, num_samples))
    # The positional convolution pads by half a kernel on both sides and drops the last frame.
    assert encoders.forward_flops(group_norm, [num_samples / 16_000]) == pytest.approx(
        counted.get_total_flops(), rel=0.02
    )


def test_flops_of_base_are_those_of_the_arithmetic_on_paper(tmp_path):
    encoders.base_config().save_pretrained(tmp_path)
    assert encoders.forward_flops(str(tmp_path), [3.7]) / 3.7 == pytest.approx(14.2e9, rel=0.01)


def test_base_has_nothing_random_left_in_training():
    config = encoders.base_config()
    random = ("hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout", "layerdrop")
    assert all(getattr(config, name) == 0 for name in random) and not config.apply_spec_augment
    assert (config.hidden_size, config.num_hidden_layers, config.feat_extract_norm) == (768, 12, "group")


def test_a_hub_name_or_folder_is_taken_as_it_is(tmp_path):
    assert encoders.encoder_folder("facebook/wav2vec2-base", tmp_path, seed=0) == "facebook/wav2vec2-base"
