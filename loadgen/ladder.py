"""The order in which levels of load are tried when a latency limit decides how far to go. Pure."""

from collections.abc import Generator
from typing import Annotated, Literal

import msgspec

from loadgen.windows import MET, OVER, Status

Above = Annotated[float, msgspec.Meta(gt=0)]


class Ladder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Levels from `start` to `end` (0: no end) in steps, until one reaches the latency limit of the stopping rule.

    With `binary`, first `start`, then `end`, then halves of what is between, until `step` is reached. Rates are sent
    with `arrivals`.
    """

    start: Above
    end: Annotated[float, msgspec.Meta(ge=0)]
    step: Above = 1.0
    over: Literal["concurrency", "rate"] = "concurrency"
    arrivals: Literal["constant", "poisson"] = "constant"
    binary: bool = False


def levels(ladder: Ladder) -> Generator[float, Status, None]:
    """Yield levels; be sent how each ended."""
    return _bisected(ladder) if ladder.binary else _climbed(ladder)


def _climbed(ladder: Ladder) -> Generator[float, Status, None]:
    """Go up while the limit is kept; a level that is only unstable stops a climb without end, and no other."""
    number = 0
    while True:
        level = round(ladder.start + number * ladder.step, 12)
        if ladder.end and number and level > ladder.end:
            return
        status = yield level
        if status in OVER or (not ladder.end and status not in MET):
            return
        number += 1


def _bisected(ladder: Ladder) -> Generator[float, Status, None]:
    low, high = ladder.start, ladder.end
    if (yield low) not in MET or (yield high) in MET:
        return
    while high - low > ladder.step:
        middle = (low + high) / 2
        middle = float(int(middle)) if ladder.over == "concurrency" else middle
        if (yield middle) in MET:
            low = middle
        else:
            high = middle
