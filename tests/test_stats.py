"""Comparisons: no more false alarms than stated, and words that follow from the interval alone."""

import math

import numpy as np
import polars as pl
import pytest

from analysis import stats, takes
from loadgen import points


def test_takes_of_equal_truth_are_called_different_as_rarely_as_stated() -> None:
    """Of 2,000 comparisons of five takes a side, 3 to 7 % leave out 1; 5 % more at 1 % scatter is found."""
    rng = np.random.default_rng(1)
    draws = np.exp(0.01 * rng.standard_normal((2000, 2, 5)))
    false = np.mean([stats.ratio_of_takes(a, b).differs for a, b in draws])
    assert 0.03 <= false <= 0.07
    found = [stats.ratio_of_takes(a, 1.05 * b) for a, b in draws]
    assert np.mean([one.differs for one in found]) > 0.999
    assert np.mean([one.low <= 1.05 <= one.high for one in found]) == pytest.approx(0.95, abs=0.02)


def test_two_takes_a_side_are_compared_with_the_t_they_deserve() -> None:
    """Few takes widen the interval: false alarms stay at the stated rate."""
    draws = np.exp(0.02 * np.random.default_rng(2).standard_normal((4000, 2, 2)))
    assert np.mean([stats.ratio_of_takes(a, b).differs for a, b in draws]) <= 0.06


def test_single_points_are_compared_by_their_own_intervals() -> None:
    """Half widths add in quadrature."""
    ratio = stats.ratio_of_points((100.0, 97.0, 103.0), (110.0, 107.0, 113.0))
    assert ratio.value == pytest.approx(1.1)
    assert ratio.differs
    assert ratio.half == pytest.approx(math.hypot(math.log(100 / 97), math.log(110 / 107)))
    assert not stats.ratio_of_points((100.0, 94.0, 106.0), (105.0, 99.0, 111.0)).differs


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (1.03, 1.06, "higher: +4.5%"),
        (0.94, 0.97, "lower: -4.5%"),
        (1.005, 1.04, "probably higher, size uncertain"),
        (0.99, 1.01, "no difference that matters"),
        (0.95, 1.06, "cannot tell"),
    ],
)
def test_words_follow_from_the_interval(low: float, high: float, said: str) -> None:
    """Beyond the margin, off 1, within the margin, or none of these."""
    assert stats.words(stats.Ratio(math.sqrt(low * high), low, high, (5, 5))).startswith(said)


def test_what_cannot_be_told_says_how_many_takes_would() -> None:
    """Takes grow with the square of the interval over the margin."""
    assert "about 32 takes a side" in stats.words(stats.Ratio(1.0, math.exp(-0.05), math.exp(0.05), (5, 5)))


def test_a_side_needs_two_takes_above_zero() -> None:
    """Otherwise there is no spread to judge by."""
    for a, b in (([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match="two takes"):
            stats.ratio_of_takes(a, b)


def table_of(*throughputs: tuple[int, float, float]) -> pl.DataFrame:
    """Return points from (concurrency, throughput, half of its interval)."""
    plain = dict.fromkeys(points.SCHEMA) | {"load": "closed_loop", "verdict": "converged", "completed": 1000}
    return points.table(
        plain
        | {
            "point": number,
            "concurrency": level,
            "throughput_per_s": value,
            "throughput_low_per_s": value - half,
            "throughput_high_per_s": value + half,
        }
        for number, (level, value, half) in enumerate(throughputs, start=1)
    )


def test_takes_have_the_interval_of_their_spread() -> None:
    """Three takes: geometric mean, Student's t with two degrees; one take: its own interval."""
    found = takes.takes(table_of((1, 9.0, 0.1), (1, 10.0, 0.1), (1, 11.0, 0.1), (2, 20.0, 0.5)))
    first, second = found.filter(pl.col("quantity") == "throughput_per_s").iter_rows(named=True)
    logs = np.log([9, 10, 11])
    half = 4.303 * logs.std(ddof=1) / math.sqrt(3)
    assert (first["takes"], first["value"]) == (3, pytest.approx(math.exp(logs.mean())))
    assert first["high"] == pytest.approx(math.exp(logs.mean() + half))
    assert first["between"] == pytest.approx(logs.std(ddof=1))
    assert first["within"] == pytest.approx(np.mean([0.1 / 1.96 / value for value in (9, 10, 11)]))
    assert (second["takes"], second["low"], second["high"], second["between"]) == (1, 19.5, 20.5, None)
    assert "Takes scatter by 10.0% where one take's own interval tells 0.5%" in (takes.scatter_words(found) or "")


def test_takes_that_scatter_as_their_intervals_tell_are_not_pointed_out() -> None:
    """By chance once in a hundred runs, not oftener."""
    rng, alarms = np.random.default_rng(3), 0
    for _ in range(400):
        rows = [(level, 10 * math.exp(0.02 * rng.standard_normal()), 0.392) for level in (1, 2, 3) for _ in range(3)]
        alarms += takes.scatter_words(takes.takes(table_of(*rows))) is not None
    assert alarms <= 12
