"""Do two tools measure the same: two one-sided tests over blocks in which both took turns. Pure.

A block gives one number, the difference of mean logarithms of its takes, so that a drift of the server cancels. Equal
within a margin m means that the 90 % interval of the mean lies inside +-log(1 + m), which holds each of the two
one-sided tests to 5 % (Schuirmann 1987). That no difference was found never counts as agreement.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loadgen.estimate import student_t

CONFIDENCE = 0.90
FEW_DEGREES = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943)
"""Student's 95 % quantile for 1 to 6 degrees of freedom, where its expansion is not exact."""

MOST_BLOCKS = 10_000
MARGINS = {
    "throughput_per_s": 0.03,
    "mean_ns": 0.03,
    "p50_ns": 0.03,
    "p90_ns": 0.05,
    "p95_ns": 0.07,
    "p99_ns": 0.10,
    "queue_ns": 0.05,
    "compute_input_ns": 0.05,
    "compute_infer_ns": 0.05,
    "compute_output_ns": 0.05,
}
"""Relative differences that do not matter, by quantity."""

Verdict = Literal["equivalent", "different", "cannot tell"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """Ours over theirs with its 90 % interval (None where there are too few blocks), and what follows from it."""

    ratio: float
    low: float | None
    high: float | None
    margin: float
    blocks: int
    verdict: Verdict
    more_blocks: int | None = None
    """About how many further blocks would tell; None where they would not, or where none is needed."""

    @property
    def words(self) -> str:
        """The verdict as a phrase."""
        margin = f"{self.margin * 100:.3g} %"
        match self.verdict:
            case "equivalent":
                return f"equivalent within {margin}"
            case "different":
                return f"different, by more than {margin}"
        sure = self.low is not None and self.high is not None and not self.low <= 1 <= self.high
        doubt = f"cannot tell whether by {margin}" if sure else "cannot tell"
        start = f"{'higher' if self.ratio > 1 else 'lower'}, {doubt}" if sure else doubt
        if self.more_blocks is None:
            return start
        return f"{start}, need about {self.more_blocks} more block{'s' * (self.more_blocks != 1)}"


def agreement(differences: Sequence[float], margin: float, rounding: float = 0.0) -> Agreement:
    """Judge the blocks' differences of logarithms, ours minus theirs.

    `rounding` is half of the step, relative to the value, in which one side reports: the interval is wider by it.

    Raises:
        ValueError: there is no block.
    """
    if not differences:
        raise ValueError("no block has both sides")
    logs, limit = np.asarray(differences, float), math.log1p(margin)
    mean = float(logs.mean())
    if len(logs) == 1:
        return Agreement(math.exp(mean), None, None, margin, 1, "cannot tell", 1)
    spread = float(logs.std(ddof=1))
    half = quantile(len(logs) - 1) * spread / math.sqrt(len(logs)) + math.log1p(rounding)
    low, high = mean - half, mean + half
    verdict: Verdict = "cannot tell"
    if -limit < low and high < limit:
        verdict = "equivalent"
    elif low > limit or high < -limit:
        verdict = "different"
    more = further_blocks(len(logs), spread, abs(abs(mean) - limit) - math.log1p(rounding))
    return Agreement(
        math.exp(mean),
        math.exp(low),
        math.exp(high),
        margin,
        len(logs),
        verdict,
        more if verdict == "cannot tell" else None,
    )


def further_blocks(blocks: int, spread: float, room: float) -> int | None:
    """Return how many more blocks bring the half-width below `room`, if the spread stays; None if none ever would."""
    if room <= 0:
        return None
    needed = blocks + 1
    while needed <= MOST_BLOCKS and quantile(needed - 1) * spread / math.sqrt(needed) >= room:
        needed += 1 + needed // 50
    return needed - blocks if needed <= MOST_BLOCKS else None


def quantile(degrees: int) -> float:
    """Return Student's 95 % quantile: of the 90 % interval."""
    if degrees <= len(FEW_DEGREES):
        return FEW_DEGREES[degrees - 1]
    return student_t(degrees, CONFIDENCE)
