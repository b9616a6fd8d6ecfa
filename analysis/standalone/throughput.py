"""Logs of `traccc_throughput_*`: time an event and events a second, warm-up apart. Pure.

The result line has not changed since v0.10: `Event processing  696.524 ms/event, 1.4357 events/s`.
"""

import re

from analysis.standalone.printed import NUMBER, Printed, facts, lines, number
from analysis.standalone.row import Row
from loadgen.clock import NS_PER_MS
from loadgen.errors import PlanError

RESULT = re.compile(rf"(Warm-up|Event) processing\s+{NUMBER} ms/event, {NUMBER} events/s(?![\w.])")
TOTAL = re.compile(rf"^\s*(File reading|Warm-up processing|Event processing)\s+{NUMBER} ms\s*$")
TRACKS = re.compile(rf"Reconstructed track parameters: {NUMBER}\s*$")
NEAR = 0.05


def is_throughput(text: str) -> bool:
    """Say whether a text is such a log, be it cut short."""
    return bool(re.search(r"ms/event|ThroughputExample|traccc_throughput|Time totals:|Reconstructed track", text))


def read(text: str, file: str) -> list[Row]:
    """Read a log, which may hold several runs one after the other: one row each.

    Raises:
        PlanError: it has no result, so the program failed or the file was cut short.
    """
    found = [row for part in _runs(text) if (row := _row(part, file)) is not None]
    if not found:
        raise PlanError(
            f"{file}: has no line `Event processing  ... ms/event, ... events/s`: the program failed, or the file "
            "was cut short; run it again, or take the file out"
        )
    return found


def _runs(text: str) -> list[str]:
    """Cut a text after each result, with the rest of that line."""
    ends = [found.end() for found in RESULT.finditer(text) if found[1] == "Event"]
    return [text[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _row(text: str, file: str) -> Row | None:
    results = {found[1]: found for found in RESULT.finditer(text)}
    if "Event" not in results:
        return None
    said = facts(text)
    totals = {found[1]: number(found[2]) for line in lines(text) if (found := TOTAL.match(line))}
    tracks = next((found for line in reversed(lines(text)) if (found := TRACKS.search(line))), None)
    event_ms = number(results["Event"][2])
    warm = results.get("Warm-up")
    return Row(
        file=file,
        kind="throughput",
        printed=said,
        event_time_ns=event_ms * NS_PER_MS,
        throughput_per_s=number(results["Event"][3]),
        warm_event_time_ns=number(warm[2]) * NS_PER_MS if warm else None,
        processed=_processed(said, totals.get("Event processing"), event_ms),
        total_ns=totals["Event processing"] * NS_PER_MS if "Event processing" in totals else None,
        file_reading_ns=totals["File reading"] * NS_PER_MS if "File reading" in totals else None,
        track_parameters=int(number(tracks[1])) if tracks else None,
    )


def _processed(said: Printed, total_ms: float | None, event_ms: float) -> int | None:
    """Return how many events were processed: as said, else total over time an event where that is near a number."""
    if said.processed is not None or total_ms is None or event_ms <= 0:
        return said.processed
    events = total_ms / event_ms
    return round(events) if round(events) and abs(events - round(events)) < NEAR else None
