"""The space of a search: what each setting may be, and configs with values in their place."""

from dataclasses import replace

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from w2v2.config.model import EncoderConfig, LoraConfig, TaskConfig
from w2v2.config.tune_folds import Dimension, SearchConfig, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.models.learning_rates import with_learning_rate
from w2v2.search.space import (
    contains,
    default_space,
    distribution,
    field_at,
    settings_of_trial,
    variants,
    with_params,
)


def test_params_reach_their_fields_and_are_checked():
    config = with_params(TuneFoldsConfig(), {"optim.learning_rate": 0.5, "encoder.pooling": "max"})
    assert (config.optim.learning_rate, config.encoder.pooling) == (0.5, "max")
    assert config.optim.beta1 == TuneFoldsConfig().optim.beta1
    with pytest.raises(UserError, match=r"optim.learning_rate must be positive"):
        with_params(TuneFoldsConfig(), {"optim.learning_rate": -1.0})


@pytest.mark.parametrize("kind", ["classes", "transcript"])
@pytest.mark.parametrize("train", ["head", "last", "all"])
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("name", ["tiny", "facebook/wav2vec2-base"])
def test_default_space_fits_the_config_and_holds_the_rate_that_suits_it(name, train, rank, kind):
    config = TuneFoldsConfig(
        encoder=EncoderConfig(name=name, train=train, pooling="none" if kind == "transcript" else "mean"),
        lora=LoraConfig(rank=0 if train == "head" else rank),
        task=TaskConfig(kind=kind),
    )
    space = default_space(config)
    replace(config, search=SearchConfig(space=space))
    for path, dimension in space.items():
        searched = distribution(path, dimension, field_at(config, path))
        assert searched.single() is False
        assert contains(searched, field_at(with_learning_rate(config), path))


def test_a_rate_left_open_follows_the_encoder_of_each_trial():
    config = TuneFoldsConfig(encoder=EncoderConfig(name="facebook/wav2vec2-base"))
    rates = {
        train: settings_of_trial(config, {"encoder.train": train}).optim.learning_rate
        for train in ("head", "last", "all")
    }
    assert rates == {"head": 1.5e-3, "last": 3e-5, "all": 3e-5}
    assert settings_of_trial(config, {"lora.rank": 8}).optim.learning_rate == 3e-4
    assert settings_of_trial(config, {"encoder.name": "tiny"}).optim.learning_rate == 1.5e-3
    given = {"encoder.train": "head", "optim.learning_rate": 7e-4}
    assert settings_of_trial(config, given).optim.learning_rate == 7e-4


@pytest.mark.parametrize("rates", [(0.0, 1e-3), (1e-3, -1e-3), ("auto",)])
def test_a_searched_rate_is_a_rate(rates):
    with pytest.raises(
        UserError, match=r"^search\.space: optim\.learning_rate must be positive, got choices"
    ):
        TuneFoldsConfig(search=SearchConfig(space={"optim.learning_rate": Dimension(choices=rates)}))


def test_integer_fields_are_searched_over_integers():
    searched = distribution("optim.batch_size", Dimension(low=4, high=64, log=True), 16)
    assert searched == optuna.distributions.IntDistribution(4, 64, log=True)


@pytest.mark.parametrize("path, default", [("optim.schedule", "linear"), ("optim.amsgrad", False)])
def test_interval_over_names_is_refused(path, default):
    with pytest.raises(UserError, match=f"{path} is not a number, got low and high; wanted choices"):
        distribution(path, Dimension(low=1, high=2), default)


@pytest.mark.parametrize(
    "dimension, inside, outside",
    [
        (CategoricalDistribution(("adam", 8)), ("adam", 8), ("sgd", 9)),
        (FloatDistribution(1e-4, 1e-2, log=True), (1e-4, 5e-3, 1e-2), (9e-5, 0.02)),
        (IntDistribution(2, 5), (2, 5), (1, 6)),
    ],
)
def test_a_dimension_holds_its_values_and_no_others(dimension, inside, outside):
    assert all(contains(dimension, value) for value in inside)
    assert not any(contains(dimension, value) for value in outside)


def test_every_encoder_of_the_space_is_prepared():
    space = {
        "encoder.pooling": Dimension(choices=("mean", "max")),
        "encoder.train": Dimension(choices=("head", "all")),
        "optim.beta1": Dimension(low=0.8, high=0.9),
    }
    pairs = {(encoder.pooling, encoder.train) for encoder in variants(EncoderConfig(), space)}
    assert pairs == {(p, t) for p in ("mean", "max") for t in ("head", "all")}
    assert variants(EncoderConfig(), {}) == [EncoderConfig()]
    with pytest.raises(UserError, match=r"search.space: encoder.layer needs choices, not low and high"):
        variants(EncoderConfig(), {"encoder.layer": Dimension(low=0, high=2)})
