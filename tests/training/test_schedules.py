"""Learning rate and batch size against points by hand and torch's own cyclic schedule."""

import math
from fractions import Fraction
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from w2v2.config.model import OptimConfig, Schedule
from w2v2.training.optimizer import NUM_CYCLES, batch_size_at, learning_rate_scale

KINDS = get_args(Schedule)


def scales(schedule: Schedule, num_steps: int, warmup_fraction: float = 0.0) -> list[float]:
    optim = OptimConfig(schedule=schedule, warmup_fraction=warmup_fraction)
    return [learning_rate_scale(step, num_steps=num_steps, optim=optim) for step in range(num_steps)]


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]),
        (
            "cosine",
            [0.5, 1, 1, 0.96193977, 0.85355339, 0.69134172, 0.5, 0.30865828, 0.14644661, 0.03806023],
        ),
        ("late_decay", [0.5, 1, 1, 1, 1, 1, 1, 1, 2 / 3, 1 / 3]),
        # Five cycles over eight steps; a triangle at positions 0, 5/8, 1 1/4, 1 7/8, 2 1/2, ...
        ("triangular2", [0.5, 1, 0, 0.75, 0.25, 0.125, 0.25, 0.03125, 0.0625, 0.046875]),
    ],
)
def test_points_by_hand(schedule, expected):
    assert scales(schedule, 10, warmup_fraction=0.2) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("half_cycle", [1, 7])
def test_triangular2_equals_torch_cyclic_lr(half_cycle):
    num_steps = NUM_CYCLES * 2 * half_cycle
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    cyclic = torch.optim.lr_scheduler.CyclicLR(
        optimizer,
        base_lr=0.0,
        max_lr=1.0,
        step_size_up=half_cycle,
        mode="triangular2",
        cycle_momentum=False,
    )
    expected = []
    for _ in range(num_steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cyclic.step()
    assert scales("triangular2", num_steps) == pytest.approx(expected, abs=1e-12)


@given(
    schedule=st.sampled_from(KINDS),
    num_steps=st.integers(1, 300),
    warmup_fraction=st.floats(0, 0.7),
)
def test_every_scale_is_a_fraction_of_the_peak_and_warm_up_climbs_to_it(schedule, num_steps, warmup_fraction):
    values = scales(schedule, num_steps, warmup_fraction)
    assert all(0 <= value <= 1 for value in values)
    climb = values[: round(warmup_fraction * num_steps)]
    assert climb == sorted(climb)
    assert not climb or (climb[0] == 1 / len(climb) and climb[-1] == 1)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "late_decay"])
def test_decay_never_climbs_and_ends_one_step_above_zero(schedule):
    values = scales(schedule, 101)
    assert values[0] == 1
    assert values == sorted(values, reverse=True)
    assert 0 < values[-1] < 0.04


def test_warm_up_over_all_steps_is_only_a_climb():
    assert scales("linear", 4, warmup_fraction=0.99) == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("num_epochs", [1, 2, 3, 7, 10, 30, 90, 110, 1000])
def test_batches_grow_for_the_last_30_percent_of_the_epochs(num_epochs):
    optim = OptimConfig(batch_size=3, late_batch_factor=5)
    sizes = [batch_size_at(epoch, num_epochs=num_epochs, optim=optim) for epoch in range(num_epochs)]
    num_late = math.floor(Fraction(3, 10) * num_epochs)
    assert sizes == [3] * (num_epochs - num_late) + [15] * num_late


def test_batches_stay_without_a_factor():
    assert {batch_size_at(epoch, num_epochs=10, optim=OptimConfig(batch_size=7)) for epoch in range(10)} == {
        7
    }
