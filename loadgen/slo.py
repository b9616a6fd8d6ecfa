"""A service level objective: a percentile of a time and the limit it must keep, as `p99 < 500ms`. Pure."""

import re
from dataclasses import dataclass
from typing import Literal

from loadgen.errors import PlanError

UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}
NUMBER = r"(\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
FORM = re.compile(rf"\s*(?:(service|response)_)?p(\d+(?:\.\d+)?)\s*<=?\s*{NUMBER}\s*(ns|us|ms|s)\s*")
Time = Literal["", "service", "response"]


@dataclass(frozen=True, slots=True)
class Slo:
    """At least `percent` of the requests take no longer than `limit_ns`; one that fails does not keep it.

    `time` is `service` or `response`, or empty for the headline of the load: response time in an open loop, service
    time in a closed one.
    """

    text: str
    time: Time
    percent: float
    limit_ns: int

    @property
    def allowed(self) -> float:
        """The share of requests that may take longer."""
        return 1 - self.percent / 100

    def since(self, *, closed: bool) -> str:
        """Return the column from which the time runs in a closed or an open loop."""
        return "sent_ns" if self.time == "service" or (closed and self.time == "") else "due_ns"


def parse(text: str) -> Slo:
    """Read an objective: `p99 < 500ms`, `service_p99.9 <= 2s`, `response_p95 < 80ms`.

    Raises:
        PlanError: it is none, or the percentile is not between 0 and 100, or the limit is 0.
    """
    found = FORM.fullmatch(text)
    if found is None:
        raise PlanError(
            f"slo {text!r}: names no known quantity with a limit; write pNN, service_pNN or response_pNN, "
            "< and a time in ns, us, ms or s, as 'p99 < 500ms'"
        )
    percent, limit_ns = float(found[2]), round(float(found[3]) * UNITS_NS[found[4]])
    if not 0 < percent < 100:  # noqa: PLR2004 - percent
        raise PlanError(f"slo {text!r}: p{percent:g} is no percentile; write one between 0 and 100, as p99")
    if limit_ns <= 0:
        raise PlanError(f"slo {text!r}: the limit is 0; write a time above it")
    time: Time = "service" if found[1] == "service" else "response" if found[1] == "response" else ""
    return Slo(" ".join(text.split()), time, percent, limit_ns)


def refuse_response_of_closed_loop(slo: Slo, where: str) -> None:
    """Refuse what cannot be known: a closed loop sends when the server answers, so that nothing is ever due.

    Raises:
        PlanError: the objective is on response time.
    """
    if slo.time == "response":
        mend = f"write service_p{slo.percent:g}, or use an open loop (a rate)"
        raise PlanError(f"slo {slo.text!r}: {where} is a closed loop, which has no response time; {mend}")
