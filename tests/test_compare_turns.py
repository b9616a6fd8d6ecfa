"""Takes that were measured in turns: each compared with its neighbour, and refused where they were not."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from compare_sides import DIFFERENT, only, side

from analysis.compare import Choices, between, side_of
from analysis.compare.sides import Side
from loadgen.errors import PlanError


def in_turns(rng: np.random.Generator, factor: float, takes: int = 5) -> tuple[Side, Side]:
    """Return two sides in turns on a machine that drifts by 8 % from one turn to the next; takes scatter by 1 %."""
    machine = [math.exp(0.08 * rng.standard_normal()) for _ in range(takes)]
    sides = [
        [{1: mult * 10 * each * math.exp(0.01 * rng.standard_normal())} for each in machine] for mult in (1, factor)
    ]
    return timed(side("a", sides[0]), range(0, 20 * takes, 20)), timed(side("b", sides[1]), range(10, 20 * takes, 20))


def timed(of: Side, starts: Sequence[int | None], utc_ns: int = 0) -> Side:
    """Return a side whose points begin at these times of a clock that read 0 at `utc_ns`."""
    points = of.loaded.points.with_columns(window_start_ns=pl.Series(list(starts), dtype=pl.Int64))
    runs = of.loaded.runs.with_columns(started_utc_ns=pl.lit(utc_ns + 7), started_at_ns=pl.lit(7))
    return side_of(of.label, replace(of.loaded, points=points, runs=runs))


def test_takes_in_turns_are_compared_with_their_neighbours() -> None:
    """Equal sides are called different in at most 5 % (+-4) of 150 comparisons; 5 % is found in nine of ten.

    The machine drifts by 8 % between turns, which hides 5 % from takes that are not paired.
    """
    rng, choices = np.random.default_rng(5), Choices(quantities=("throughput_per_s",), paired=True)
    alone = replace(choices, paired=False)
    alarms = found = unpaired = 0
    for _ in range(150):
        equal, slower = in_turns(rng, 1), in_turns(rng, 1 / 1.05)
        alarms += only(between(equal, choices))[0].verdict in DIFFERENT
        found += only(between(slower, choices))[0].verdict in DIFFERENT
        unpaired += only(between(slower, alone))[0].verdict in DIFFERENT
    assert alarms <= 0.09 * 150
    assert found >= 0.9 * 150
    assert unpaired <= 0.3 * 150


def test_pairs_by_hand_and_by_time_not_by_order() -> None:
    """Student's t of the pairs' logarithms; the takes of a side are put in order of time, B before A or after it."""
    a = timed(side("a", [{1: 10.0}, {1: 30.0}, {1: 20.0}]), (1, 9, 6))
    b = timed(side("b", [{1: 11.0}, {1: 22.0}, {1: 34.5}]), (2, 5, 8))
    found = between([a, b], Choices(quantities=("throughput_per_s",), paired=True))
    logs = np.log([1.1, 1.1, 1.15])
    for pair in (*only(found), *found.whole):
        assert pair.basis == "pairs"
        assert pair.ratio == pytest.approx(math.exp(logs.mean()))
        half = 4.302653 * logs.std(ddof=1) / math.sqrt(3)
        assert pair.ratio_high == pytest.approx(math.exp(logs.mean() + half), rel=1e-6)


def test_a_pair_without_a_usable_take_is_left_out_whole() -> None:
    """The take that drifted goes with its neighbour; the others keep theirs."""
    a = timed(side("a", [{1: 10.0}, {1: 99.0}, {1: 20.0}, {1: 40.0}]), (1, 3, 5, 7))
    spoiled = side("b", [{1: 11.0}, {1: 20.0}, {1: 22.0}, {1: 44.0}])
    verdicts_of = pl.Series(["converged", "drifting", "converged", "converged"])
    b = timed(
        replace(
            spoiled, loaded=replace(spoiled.loaded, points=spoiled.loaded.points.with_columns(verdict=verdicts_of))
        ),
        (2, 4, 6, 8),
    )
    found = between([a, b], Choices(quantities=("throughput_per_s",), paired=True))
    [pair] = only(found)
    assert (pair.takes_a, pair.takes_b) == (3, 3)
    assert pair.ratio == pytest.approx(1.1)
    assert "drifting" in found.unsteady[0]


@pytest.mark.parametrize(
    ("starts", "said"),
    [
        ((1, 2, 3), "takes 1 and 2 of a and b were not measured in turns"),
        ((14, 24, None), "when the takes of b were measured is not recorded"),
        ((14, 24), "a has 3 takes and b has 2; pairs need as many of each"),
    ],
)
def test_what_was_not_taken_in_turns_cannot_be_paired(starts: Sequence[int | None], said: str) -> None:
    """One line says why: taken one side after the other, at unknown times, or not as many."""
    takes = [{1: 10.0}, {1: 10.1}, {1: 10.2}]
    sides = [timed(side("a", takes), (10, 20, 30)), timed(side("b", takes[: len(starts)]), starts)]
    with pytest.raises(PlanError, match=f"--paired: .*{said}"):
        between(sides, Choices(quantities=("throughput_per_s",), paired=True))


def test_turns_are_by_the_calendar_not_by_the_hosts_clock() -> None:
    """A host that was restarted between the sides counts from 0 again: that looks as if it had been in turns."""
    takes = [{1: 10.0}, {1: 10.1}, {1: 10.2}]
    sides = [timed(side("a", takes), (10, 20, 30)), timed(side("b", takes), (11, 21, 31), utc_ns=100)]
    with pytest.raises(PlanError, match="not measured in turns"):
        between(sides, Choices(quantities=("throughput_per_s",), paired=True))
