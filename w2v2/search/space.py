"""The space of a search: dotted paths of settings with the values they may take, and configs with a trial's values."""

import itertools
import logging
from collections.abc import Mapping
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from w2v2.config.model import EncoderConfig
from w2v2.config.tune_folds import Dimension, TuneFoldsConfig
from w2v2.errors import UserError
from w2v2.json_types import Json
from w2v2.models.learning_rates import is_tiny, learning_rates, log_learning_rate, with_learning_rate

logger = logging.getLogger(__name__)

Params = dict[str, Json]
"""Values of hyperparameters by dotted path."""
C = TypeVar("C")


def default_space(config: TuneFoldsConfig) -> dict[str, Dimension]:
    """The default space over AdamW's hyperparameters; the learning rates depend on what is trained."""
    rates = learning_rates(config.encoder, config.lora, config.task.kind)
    sizes = (8, 16) if is_tiny(config.encoder.name) else (8, 16, 32)
    return {
        "optim.learning_rate": Dimension(low=rates.low, high=rates.high, log=True),
        "optim.weight_decay": Dimension(low=1e-4, high=0.3, log=True),
        "optim.beta1": Dimension(low=0.8, high=0.95),
        "optim.beta2": Dimension(choices=(0.98, 0.99, 0.999)),
        "optim.eps": Dimension(low=1e-9, high=1e-6, log=True),
        "optim.warmup_fraction": Dimension(low=0.0, high=0.3),
        "optim.schedule": Dimension(choices=("constant", "linear", "cosine", "late_decay")),
        "optim.batch_size": Dimension(choices=sizes),
    }


def log_learning_rates(given: TuneFoldsConfig, config: TuneFoldsConfig) -> None:
    """Log the learning rates of config, in which with_learning_rate has filled in an open rate."""
    if not given.search.space:
        rates = learning_rates(config.encoder, config.lora, config.task.kind)
        logger.info(
            "search: AdamW's settings, with learning rates from %g to %g, which suit %s; --search.space sets others",
            rates.low,
            rates.high,
            rates.trained,
        )
    elif "optim.learning_rate" not in config.search.space:
        log_learning_rate(given, config)


def distribution(path: str, dimension: Dimension, default: object) -> BaseDistribution:
    """The Optuna distribution of a dimension; a field that contains an int is searched over ints.

    Raises UserError for an interval of a field that is not a number.
    """
    if dimension.choices:
        return CategoricalDistribution(dimension.choices)
    if isinstance(default, bool) or not isinstance(default, int | float):
        raise UserError(f"search.space: {path} is not a number, got low and high; wanted choices")
    if isinstance(default, int):
        return IntDistribution(round(dimension.low), round(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def field_at(config: object, path: str) -> object:
    """The value of the field at a dotted path.

    >>> from w2v2.config.tune_folds import TuneFoldsConfig
    >>> field_at(TuneFoldsConfig(), "optim.schedule")
    'linear'
    """
    for name in path.split("."):
        config = getattr(config, name)
    return config


def with_params(config: C, params: Mapping[str, Json]) -> C:
    """`config` with the fields at dotted paths replaced; every section is checked again.

    Raises UserError for values that a section refuses.
    """
    for path, value in params.items():
        config = _replaced(config, path.split("."), value)
    return config


def settings_of_trial(config: TuneFoldsConfig, params: Mapping[str, Json]) -> TuneFoldsConfig:
    """The settings of a search with the values of a trial; an open learning rate becomes the rate for the trial's encoder."""
    return with_learning_rate(with_params(config, params))


def _replaced(config: C, names: list[str], value: object) -> C:
    assert is_dataclass(config) and not isinstance(config, type)
    name, *rest = names
    return replace(config, **{name: _replaced(getattr(config, name), rest, value) if rest else value})


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a value lies in a dimension."""
    match distribution:
        case CategoricalDistribution():
            return value in distribution.choices
        case FloatDistribution() | IntDistribution():
            return distribution.low <= value <= distribution.high
        case _:
            raise AssertionError(distribution)


def variants(encoder: EncoderConfig, space: dict[str, Dimension]) -> list[EncoderConfig]:
    """Every encoder of the trials: all combinations of the searched encoder fields.

    Raises UserError for an encoder field that is searched over an interval.
    """
    paths = [path for path in space if path.startswith("encoder.")]
    for path in paths:
        if not space[path].choices:
            raise UserError(
                f"search.space: {path} needs choices, not low and high: each is prepared before the search"
            )
    combinations = itertools.product(*(space[path].choices for path in paths))
    names = [path.removeprefix("encoder.") for path in paths]
    fields: list[dict[str, Any]] = [dict(zip(names, values, strict=True)) for values in combinations]
    return [replace(encoder, **values) for values in fields]
