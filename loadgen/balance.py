"""Several servers behind one address: how their statistics give them away, and what then cannot be known. Pure.

Through a balancer each reading of the counters comes from whichever server took the call. Counters never fall, so a
second fall cannot be one server that was restarted; and one server's counters hold every answer that it gave.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from loadgen.kserve import Statistics
from loadgen.pointlog import PointLog

FALLS_OF_A_RESTART = 1
UNCOUNTED_SHARE = 0.05
"""Of our answers in a point, what a server may not have counted before others are held to have given it."""

COUNTERS = tuple(
    field.name
    for field in fields(Statistics)
    if field.name.endswith(("_count", "_ns")) and field.name not in {"asked_ns", "read_ns"}
)
REMEDY = "give each one's page with --metrics-url, or a --prometheus-url"


@dataclass(slots=True)
class Balance:
    """Watches the readings of a run; `reason` says why they are of several servers, once that is sure."""

    reason: str = ""
    falls: int = 0
    last: Statistics | None = None

    def see(self, reading: Statistics) -> None:
        """Take note of a reading."""
        words = fell(self.last, reading) if self.last else ""
        self.last = reading
        self.falls += bool(words)
        if words and self.falls > FALLS_OF_A_RESTART and not self.reason and not reading.replicas:
            self.reason = f"several servers answer at this address ({words} between two readings)"

    def count(self, before: Statistics | None, after: Statistics | None, answered: int) -> None:
        """Take note of what the counters say of a point in which so many answers came."""
        if before is None or after is None or self.reason:
            return
        counted = after.success_count - before.success_count
        if 0 <= counted < (1 - UNCOUNTED_SHARE) * answered:
            known = f"{len(after.replicas)} pages hold" if after.replicas else "the counters hold"
            self.reason = (
                f"several servers answer at this address ({known} {counted} of {answered} answers of a point)"
            )


def stated(replicas: int) -> str:
    """Return the reason where the plan says how many servers there are; empty for one, or where it does not."""
    return f"{replicas} servers answer at this address, as was said" if replicas > 1 else ""


def fell(before: Statistics, after: Statistics) -> str:
    """Name the first counter that is lower in the later of two readings; empty if there is none."""
    for name in COUNTERS:
        was, became = getattr(before, name), getattr(after, name)
        if became < was:
            return f"{name} went from {was} back to {became}"
    return ""


def trusted(log: PointLog) -> PointLog:
    """Return a point without the readings that are of several servers, or of one that was restarted meanwhile."""
    reason = log.unavailable or _reset(log)
    if not reason:
        return log
    return replace(log, started=None, opened=None, closed=None, drained=None, unavailable=reason)


def _reset(log: PointLog) -> str:
    pairs = (log.started, log.opened), (log.opened, log.closed), (log.started, log.drained)
    words = next(filter(None, (fell(before, after) for before, after in pairs if before and after)), "")
    return f"the server was restarted, or several answer at this address ({words})" if words else ""


def replica_requests(log: PointLog) -> Mapping[str, int | None]:
    """Return the requests that each replica answered well in a point's window; none where there is one server."""
    if log.opened is None or log.closed is None:
        return {}
    before, after = log.opened.replicas, log.closed.replicas
    return {
        name: after[name].success_count - before[name].success_count if name in before else None for name in after
    }
