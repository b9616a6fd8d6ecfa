"""Equal within a margin, different, or cannot tell: two one-sided tests over blocks."""

import math

import numpy as np
import pytest

from analysis import equivalence
from analysis.equivalence import agreement, quantile


def test_quantiles_are_students() -> None:
    """The 95 % quantiles of Student's t, from its tables, within a thousandth."""
    table = {1: 6.314, 2: 2.920, 5: 2.015, 6: 1.943, 7: 1.895, 9: 1.833, 19: 1.729, 60: 1.671, 1000: 1.646}
    for degrees, value in table.items():
        assert quantile(degrees) == pytest.approx(value, rel=1e-3)


def test_the_interval_is_that_of_the_mean_of_blocks() -> None:
    """Three blocks of +1, +2 and +3 %: mean 2 %, half-width 2.920 / sqrt(3) of a standard deviation of 1 %."""
    found = agreement([0.01, 0.02, 0.03], 0.05)
    half = 2.920 * 0.01 / math.sqrt(3)
    assert found.ratio == pytest.approx(math.exp(0.02))
    assert (found.low, found.high) == pytest.approx((math.exp(0.02 - half), math.exp(0.02 + half)))
    assert found.verdict == "equivalent"


def test_verdicts() -> None:
    """Inside the margin: equivalent; wholly beyond it: different; else it cannot be told, and what would tell."""
    assert agreement([0.001, -0.001, 0.002], 0.03).words == "equivalent within 3 %"
    assert agreement([0.10, 0.11, 0.12], 0.03).words == "different, by more than 3 %"
    assert agreement([-0.10, -0.11, -0.12], 0.03).verdict == "different"
    unsure = agreement([0.05, -0.05, 0.04], 0.03)
    assert unsure.verdict == "cannot tell"
    assert unsure.more_blocks
    assert "more blocks" in unsure.words
    assert agreement([0.0], 0.03).words == "cannot tell, need about 1 more block"


def test_no_difference_found_is_not_agreement() -> None:
    """Blocks that scatter widely about no difference at all are never called equivalent."""
    assert agreement([0.2, -0.2, 0.2, -0.2], 0.03).verdict == "cannot tell"


def test_rounding_of_a_report_widens_the_interval() -> None:
    """A value of 3 us reported in whole microseconds says nothing within 3 %, however often it is repeated."""
    assert agreement([0.0, 0.0, 0.0], 0.03).verdict == "equivalent"
    rounded = agreement([0.0, 0.0, 0.0], 0.03, rounding=0.5 / 3)
    assert rounded.verdict == "cannot tell"
    assert rounded.more_blocks is None


def test_a_difference_at_the_margin_is_called_equivalent_in_one_of_twenty() -> None:
    """The risk of the user: truly different by the margin, 5 blocks, 4,000 tries: called equivalent 5 % of times."""
    drawn = np.random.default_rng(1).normal(math.log1p(0.03), 0.01, (4000, 5))
    called = [agreement(blocks.tolist(), 0.03).verdict == "equivalent" for blocks in drawn]
    assert 0.035 < np.mean(called) < 0.065


def test_the_number_of_further_blocks_would_do() -> None:
    """With so many blocks of the same spread the interval fits; with one less it does not."""
    more = equivalence.further_blocks(5, 0.02, 0.01)
    assert more is not None
    needed = 5 + more
    assert quantile(needed - 1) * 0.02 / math.sqrt(needed) < 0.01
    assert quantile(needed - 2) * 0.02 / math.sqrt(needed - 1) >= 0.01


def test_without_a_block_there_is_no_verdict() -> None:
    """No block at all is refused."""
    with pytest.raises(ValueError, match="no block"):
        agreement([], 0.03)
