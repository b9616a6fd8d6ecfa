"""Texts of options -> numbers of a plan: ranges, weights, shapes, profiles. Pure."""

import math
from typing import Literal

from loadgen.errors import PlanError
from loadgen.plan import RATE_LIMIT, Segment

MOST_LEVELS = 10_000


def range_option(text: str) -> tuple[int, int]:
    """Parse `--event-range FIRST:LAST`, both taken; one number is that event alone.

    Raises:
        PlanError: not whole numbers, or the last below the first.
    """
    first, _, last = text.partition(":")
    numbers = (first, last or first)
    if not all(part.isascii() and part.isdigit() for part in numbers) or int(numbers[1]) < int(numbers[0]):
        raise PlanError(f"--event-range {text}: write FIRST:LAST with whole numbers, as 0:9")
    return int(numbers[0]), int(numbers[1])


def weights_option(text: str) -> tuple[float, ...]:
    """Parse `--weights W0,W1,...`, one a request.

    Raises:
        PlanError: one is not a number from 0.
    """
    try:
        weights = tuple(map(float, text.split(",")))
    except ValueError:
        weights = (-1.0,)
    if not all(0 <= weight < math.inf for weight in weights):
        raise PlanError(f"--weights {text}: write numbers from 0, one a request, as 5,1,1")
    return weights


def input_option(text: str) -> tuple[str, Literal["zero", "random"]]:
    """Parse `--input NAME=zero` or `NAME=random`.

    Raises:
        PlanError: it is neither.
    """
    name, _, values = text.rpartition("=")
    if not name or values not in {"zero", "random"}:
        raise PlanError(f"--input {text}: write NAME=zero or NAME=random")
    return name, "zero" if values == "zero" else "random"


def shape_option(text: str) -> tuple[str, tuple[int, ...]]:
    """Parse perf_analyzer's `--shape NAME:d1,d2`; the name may hold colons.

    Raises:
        PlanError: there is no name, or a dimension is not a positive whole number.
    """
    name, _, dimensions = text.rpartition(":")
    parts = dimensions.split(",")
    if not name or not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise PlanError(f"--shape {text}: write NAME:D1,D2 with whole numbers from 1, as FEATURES:1000,5")
    return name, tuple(map(int, parts))


def concurrency_levels(text: str) -> tuple[int, ...]:
    """Parse perf_analyzer's `start[:end[:step]]` into whole-number levels.

    Raises:
        PlanError: not one to three positive integers, or end below start.
    """
    mend = "write START, START:END or START:END:STEP with whole numbers from 1, as 1:8:1"
    parts = text.split(":")
    if len(parts) > len(("start", "end", "step")) or not all(part.isascii() and part.isdigit() for part in parts):
        raise PlanError(f"--concurrency-range {text}: {mend}")
    start, end, step = [*map(int, parts), *[int(parts[0]), 1][len(parts) - 1 :]]
    if min(start, step) < 1 or end < start:
        raise PlanError(f"--concurrency-range {text}: {mend}")
    return tuple(range(start, end + 1, step))


def rate_levels(text: str) -> tuple[float, ...]:
    """Parse perf_analyzer's `--request-rate-range start[:end[:step]]` into rates.

    Raises:
        PlanError: not one to three positive numbers, or end below start.
    """
    mend = "write START, START:END or START:END:STEP with numbers above 0, as 10:50:10"
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= len(("start", "end", "step")) or not all(0 < each < RATE_LIMIT for each in numbers):
        raise PlanError(f"--request-rate-range {text}: {mend}")
    start, end, step = [*numbers, *[numbers[0], 1.0][len(numbers) - 1 :]]
    if end < start:
        raise PlanError(f"--request-rate-range {text}: {mend}")
    count = int((end - start) / step * (1 + 1e-12) + 1e-9) + 1
    return tuple(round(start + step * number, 12) for number in range(count))


def levels_option(text: str, option: str, *, whole: bool = False, least: float = 1.0) -> tuple[float, ...]:
    """Parse a list of numbers and START:END[:STEP] ranges, as `1,2,4` or `1:8`, ends included; empty text is none.

    Raises:
        PlanError: a part is no such number or range, not whole where it must be, or one comes twice.
    """
    levels: list[float] = []
    for part in filter(None, text.split(",")):
        levels += _range_of(part, f"{option} {text}", whole=whole, least=least if whole else 1e-9)
    if len(set(levels)) < len(levels):
        raise PlanError(f"{option} {text}: names a level twice")
    return tuple(levels)


def _range_of(part: str, where: str, *, whole: bool, least: float) -> list[float]:
    try:
        numbers = [float(number) for number in part.split(":")]
    except ValueError:
        numbers = []
    first, last, step = [(0, 0, 0), (*numbers * 2, 1), (*numbers, 1), numbers][min(len(numbers), 3)][:3]
    fits = len(numbers) < 4 and all(map(math.isfinite, numbers)) and least <= first <= last and step > 0  # noqa: PLR2004 - START:END:STEP
    if not fits or (whole and not all(number.is_integer() for number in numbers)):
        kind = "whole numbers" if whole else "numbers"
        raise PlanError(f"{where}: write {kind} from {least:.0f}, as 1,2,4 or START:END[:STEP]")
    count = math.floor((last - first) / step + 1e-9) + 1
    if count > MOST_LEVELS:
        raise PlanError(f"{where}: is {count} levels; {MOST_LEVELS} are the most")
    return [first + step * place for place in range(count)]


def profile_option(text: str) -> tuple[Segment, ...]:
    """Parse `--profile RATE:SECONDS,...`; a rate is a number, or FROM-TO for a ramp.

    Raises:
        PlanError: anything else.
    """
    try:
        return tuple(map(_segment, text.split(",")))
    except ValueError as error:
        raise PlanError(
            f"--profile {text}: write RATE:SECONDS for each part, RATE a number or FROM-TO, as 10:30,10-50:60"
        ) from error


def _segment(text: str) -> Segment:
    rate, seconds = text.split(":")
    first, _, last = rate.partition("-")
    numbers = float(seconds), float(first), float(last or first)
    if not 0 < numbers[0] < math.inf or not all(0 <= each < RATE_LIMIT for each in numbers[1:]):
        raise ValueError(text)
    return Segment(*numbers)


def steps_option(text: str) -> tuple[tuple[int, float], ...]:
    """Parse `--concurrency-steps LEVEL:SECONDS,...`.

    Raises:
        PlanError: anything else.
    """
    try:
        pairs = [part.split(":") for part in text.split(",")]
        levels = tuple((int(level), float(seconds)) for level, seconds in pairs)
    except ValueError:
        levels = ()
    if not levels or not all(level > 0 and 0 < seconds < math.inf for level, seconds in levels):
        raise PlanError(f"--concurrency-steps {text}: write LEVEL:SECONDS,... with numbers above 0, as 2:10,8:10")
    return levels


def companion_option(text: str) -> tuple[str, str, float, str]:
    """Parse `--also MODEL[@VERSION]=WEIGHT:INPUT` into model, version, weight and input.

    Raises:
        PlanError: anything else.
    """
    name, _, rest = text.partition("=")
    model, _, version = name.partition("@")
    weight, _, given = rest.partition(":")
    try:
        share = float(weight)
    except ValueError:
        share = 0.0
    if not model or not given or not 0 < share < math.inf:
        raise PlanError(f"--also {text}: write MODEL=WEIGHT:INPUT with a weight above 0, as other-model=0.5:in.json")
    return model, version, share, given
