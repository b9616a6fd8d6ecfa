"""Knee, law and recommendation: right where the truth is known, silent where the data say nothing."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import scaling
from analysis.scaling import Level

STEPS = (1, 2, 3, 4, 6, 8, 12, 16)


def swept(
    law: Callable[[float], float], noise: float = 0.0, seed: int = 0, steps: tuple[int, ...] = STEPS
) -> list[Level]:
    """Return a sweep of a law with relative noise, stated as the points' intervals."""
    rng = np.random.default_rng(seed)
    values = [law(n) * math.exp(noise * rng.standard_normal()) for n in steps]
    return [
        Level(n, value, value * (1 - 1.96 * noise), value * (1 + 1.96 * noise))
        for n, value in zip(steps, values, strict=True)
    ]


def queue(n: float) -> float:
    """Four instances of 50 ms behind a client gap of 2 ms: knee at 4.16, 80/s."""
    return min(n / 0.052, 80.0)


def bent(n: float) -> float:
    """Contention 0.05, coherency 0.002: the peak is at 21.8."""
    return 20 * n / (1 + 0.05 * (n - 1) + 0.002 * n * (n - 1))


def test_a_plain_queue_has_a_corner_and_no_contention() -> None:
    """At 2 % noise the knee is found within its interval nine times in ten, and no curve is named."""
    found = [scaling.scaling(swept(queue, 0.02, seed)) for seed in range(60)]
    assert all(one is not None and one.law == "bound" and one.peak is None for one in found)
    assert sum(one.knee.low <= 4.16 <= one.knee.high for one in found if one) >= 52
    assert np.mean([one.capacity_per_s.value for one in found if one]) == pytest.approx(80, rel=0.01)


def test_contention_is_named_where_it_is_true_and_the_peak_where_it_was_passed() -> None:
    """The universal scalability law is found back from noisy data that go past its peak."""
    law = scaling.scaling(swept(bent, 0.02, steps=(*STEPS, 24, 32, 48)))
    assert law is not None
    assert law.law == "usl"
    assert law.contention == pytest.approx(0.05, abs=0.012)
    assert law.coherency == pytest.approx(0.002, abs=0.0004)
    assert law.peak == pytest.approx(21.8, rel=0.06)


def test_no_peak_is_named_that_no_point_has_passed() -> None:
    """Points before the peak may fit the law; its peak would be an extrapolation."""
    law = scaling.scaling(swept(bent, 0.001))
    assert law is None or law.peak is None


def test_a_sweep_that_never_saturates_has_no_knee() -> None:
    """Throughput that grows to the last level tells no capacity; nor do four levels."""
    assert scaling.scaling(swept(lambda n: 10.0 * n)) is None
    assert scaling.scaling(swept(queue, steps=(1, 4, 8, 16))) is None


@settings(max_examples=100, deadline=None)
@given(alone=st.floats(1e-4, 10), knee=st.floats(1.6, 10))
def test_without_noise_the_bound_is_exact(alone: float, knee: float) -> None:
    """Any corner inside the range is found to a part in a million."""
    law = scaling.scaling(swept(lambda n: min(n / alone, knee / alone)))
    assert law is not None
    assert law.knee.value == pytest.approx(knee, rel=1e-6)
    assert law.alone_s.value == pytest.approx(alone, rel=1e-6)


def test_the_recommendation_is_the_least_that_is_enough() -> None:
    """Just past the knee; and of a sweep that was still growing the last, said to be so."""
    levels = swept(queue)
    level, reason = scaling.recommended(levels, scaling.scaling(levels)) or (None, "")
    assert level is not None
    assert level.concurrency == 4
    assert "knee is at 4.16" in reason
    growing = swept(lambda n: 10.0 * n)
    level, reason = scaling.recommended(growing, None) or (None, "")
    assert level is not None
    assert level.concurrency == 16
    assert "still growing" in reason
    assert scaling.recommended([], None) is None
