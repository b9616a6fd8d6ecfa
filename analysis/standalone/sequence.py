"""Logs of `traccc_seq_example*`: whole milliseconds by stage, totals over all events. Pure.

Throughput is the events over the sum of the stages of one device, without the reading of files; the wall time has the
reading and, where CPU and GPU are compared, both devices in it.
"""

import re

from analysis.standalone.printed import NUMBER, facts, lines, number, program_device
from analysis.standalone.row import Row
from loadgen.clock import NS_PER_MS, NS_PER_S
from loadgen.errors import PlanError

ELAPSED = re.compile(r"==>\s?Elapsed times")
STAGE = re.compile(rf"^\s*(\S.*?)\s*(?:\((cpu|cuda|sycl|alpaka|kokkos|futhark|hip)\))?\s\s+{NUMBER} ms\s*$")
EVENT = re.compile(r"===>>> Event (\d+) <<<===")
READING = re.compile(r"(?i)reading|^read ")
WALL = "Wall time"


def is_sequence(text: str) -> bool:
    """Say whether a text is such a log, be it cut short."""
    return bool(re.search(r"==>\s?(?:Statistics|Elapsed times)|===>>> Event|traccc_seq", text))


def read(text: str, file: str, events: int | None = None) -> list[Row]:
    """Read a log: one row a device. `events` says how many there were, where the log does not.

    Raises:
        PlanError: it is cut short, or does not tell how many events it is about.
    """
    said = facts(text)
    start = ELAPSED.search(text)
    found = [stage for line in lines(text[start.end() :]) if (stage := STAGE.match(line))] if start else []
    if not any(stage[1] == WALL for stage in found):
        raise PlanError(f"{file}: is cut short: its times do not end in `Wall time`; run it again")
    count = events or said.processed or said.events or len(set(EVENT.findall(text)))
    if not count:
        raise PlanError(
            f"{file}: does not say how many events its times are of (neither options nor `Event` lines); "
            "give --events N"
        )
    otherwise = said.device or program_device(text) or "cpu"
    devices = dict.fromkeys(stage[2] or otherwise for stage in found if not _apart(stage[1]))
    return [
        row
        for device in devices
        if (row := _row(file, text, device, _stages_ms(found, device, otherwise), count)) is not None
    ]


def _apart(name: str) -> bool:
    return name == WALL or READING.search(name) is not None


def _stages_ms(found: list[re.Match[str]], device: str, otherwise: str) -> dict[str, float]:
    return {
        stage[1]: number(stage[3]) for stage in found if not _apart(stage[1]) and (stage[2] or otherwise) == device
    }


def _row(file: str, text: str, device: str, stages_ms: dict[str, float], events: int) -> Row | None:
    total_ms = sum(stages_ms.values())
    if total_ms <= 0:
        return None
    return Row(
        file=file,
        kind="sequence",
        printed=facts(text),
        device=device,
        event_time_ns=total_ms / events * NS_PER_MS,
        throughput_per_s=events / (total_ms * NS_PER_MS / NS_PER_S),
        processed=events,
        total_ns=total_ms * NS_PER_MS,
        stages_ns={name: value / events * NS_PER_MS for name, value in stages_ms.items()},
    )
