"""One result of a traccc program, whichever kind of file told it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from analysis.standalone.printed import Printed


@dataclass(frozen=True, slots=True)
class Row:
    """Times are of an event; `processed` and `device` as the kind of file knows them, None for as printed."""

    file: str
    kind: str
    printed: Printed
    event_time_ns: float
    throughput_per_s: float
    warm_event_time_ns: float | None = None
    processed: int | None = None
    total_ns: float | None = None
    file_reading_ns: float | None = None
    track_parameters: int | None = None
    device: str | None = None
    stages_ns: Mapping[str, float] = field(default_factory=dict)
