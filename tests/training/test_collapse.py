"""Alarms: each picture of collapse raises its own, slow learning raises none."""

import math

from w2v2.training.collapse import Alarms, StepReading

CHANCE = math.log(101)


def reading(**changes: float) -> StepReading:
    settings = dict(
        loss=4.0, chance_loss=CHANCE, accuracy=0.1, perplexity=70.0, num_codes=128, gradient_norm=0.8
    )
    return StepReading(**{**settings, **changes})


def steps_until_alarm(step: StepReading, most: int = 200) -> int | None:
    alarms = Alarms()
    for number in range(1, most + 1):
        alarms = alarms.after(step)
        if alarms.reason(step):
            return number
    return None


def test_few_codes_are_a_collapse_whatever_the_loss():
    few = reading(perplexity=2.0, loss=1.0)
    assert steps_until_alarm(few) == 20
    assert "raise --loss.diversity_weight" in Alarms(few_codes=20).reason(few)
    perfect = reading(perplexity=2.0, loss=0.0, accuracy=1.0, gradient_norm=0.0)
    assert steps_until_alarm(perfect) == 1


def test_a_loss_at_chance_is_a_collapse_only_without_gradient():
    assert steps_until_alarm(reading(loss=CHANCE * 0.999, perplexity=118.0, gradient_norm=0.05)) == 50
    assert steps_until_alarm(reading(loss=CHANCE * 0.999, perplexity=118.0, gradient_norm=0.15)) is None
    assert steps_until_alarm(reading(loss=CHANCE * 0.98, perplexity=118.0, gradient_norm=0.05)) is None


def test_a_healthy_run_raises_none_and_an_alarm_falls_again():
    assert steps_until_alarm(reading()) is None
    assert steps_until_alarm(reading(perplexity=26.0)) is None
    alarms = Alarms()
    for step in [reading(perplexity=5.0)] * 19 + [reading()] + [reading(perplexity=5.0)] * 19:
        alarms = alarms.after(step)
        assert not alarms.reason(step)
        assert alarms.is_rising == (step.perplexity < 12.8)
