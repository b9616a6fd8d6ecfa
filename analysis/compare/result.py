"""What a comparison finds, as it is written out: to JSON as it stands here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from analysis.compare.limits import Decision

QUANTITIES = ("throughput_per_s", "mean_ns", "p50_ns", "p99_ns")
ALL_POINTS = "all points"


@dataclass(frozen=True, slots=True)
class Choices:
    """What to compare and how: quantities, margins by quantity (relative), limits, and where scatter is known from.

    `paired`: takes were measured in turns, and each is compared with its neighbour.

    `mean_ns`, `p99_ns` and the like are of the time that a load is judged by: response time in an open loop, else
    service time.
    """

    quantities: tuple[str, ...] = QUANTITIES
    margins: Mapping[str, float] = field(default_factory=dict)
    margin: float | None = None
    fail_if: tuple[str, ...] = ()
    strict: bool = False
    anyway: bool = False
    floor: Path | None = None
    paired: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """One quantity of one point, or of the whole sweep, on two sides; B is `label`, A the baseline.

    Limits are those of 95 % intervals. `p_different` and `p_equivalent` are adjusted (Holm) for the points of the
    quantity. `basis` is `takes`, `pairs`, `floor`, `windows`, or empty where there is no interval.
    """

    label: str
    place: str
    load: str
    level: float | None
    quantity: str
    unit: str
    a: float | None
    b: float | None
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    takes_a: int
    takes_b: int
    basis: str
    margin: float
    p_different: float | None
    p_equivalent: float | None
    verdict: str
    words: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything found: `whole` (a verdict a quantity and side, the one to quote) and `points`.

    `unpaired`, `unsteady` and `notes` are sentences: points without a partner, points not to be used, and what else
    must be known to judge this.
    """

    baseline: str
    labels: tuple[str, ...]
    simulated: bool
    whole: tuple[Pair, ...]
    points: tuple[Pair, ...]
    decisions: tuple[Decision, ...]
    unpaired: tuple[str, ...]
    unsteady: tuple[str, ...]
    notes: tuple[str, ...]
    strict: bool = False

    @property
    def failed(self) -> bool:
        """Whether a limit is exceeded; with `strict` also where it cannot be told."""
        bad = {"exceeded", "cannot tell"} if self.strict else {"exceeded"}
        return any(decision.outcome in bad for decision in self.decisions)
