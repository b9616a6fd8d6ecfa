"""CSVs of traccc's `--log-file`: whole nanoseconds, a row a run, appended. Pure.

`"odd/geant4_ttbar_mu200/",48,10,10,100,<warm-up ns>,<processing ns>`; v0.10 has the target cells of a partition
before the times. A header is there only where a profiling script wrote it.
"""

import csv
import re

from analysis.standalone.printed import OLD_STYLE, Printed
from analysis.standalone.row import Row
from loadgen.clock import NS_PER_S
from loadgen.errors import PlanError

HEADER = "directory"
LENGTHS = (7, 8)
FIRST = re.compile(
    r'^(?:directory,threads,|"[^"\n]*",\d+,\d+,\d+,\d+,\d+|[^",\n]*[A-Za-z/][^",\n]*(?:,\d+){6,7}\s*$)', re.MULTILINE
)
COLUMNS = "directory,threads,loaded_events,cold_run_events,processed_events,warm_up_time,processing_time"


def is_log_file(text: str) -> bool:
    """Say whether a text is such a CSV, be it cut short."""
    return FIRST.search(text) is not None


def read(text: str, file: str) -> tuple[list[Row], list[str]]:
    """Read a CSV; return its rows and, in words, what was left out: a last line without its end may lack digits.

    Raises:
        PlanError: a line is not of this form, or none is left.
    """
    kept, cut = text, []
    if text and not text.endswith("\n"):
        kept = text[: text.rfind("\n") + 1]
        cut = [f"{file}: its last line has no end and was left out, for digits may be missing"]
    rows = [
        _row(cells, f"{file}:{number}", file)
        for number, cells in enumerate(csv.reader(kept.splitlines()), 1)
        if cells and cells[0] != HEADER
    ]
    if not rows:
        raise PlanError(f"{file}: holds no whole row; expected {COLUMNS}")
    return rows, cut


def _row(cells: list[str], where: str, file: str) -> Row:
    if len(cells) not in LENGTHS or not all(cell.strip().isdecimal() for cell in cells[1:]):
        raise PlanError(f"{where}: is no row of a traccc --log-file; expected {COLUMNS}")
    threads, events, warm, processed = map(int, cells[1:5])
    warm_ns, total_ns = map(int, cells[-2:])
    if not processed or not total_ns:
        raise PlanError(f"{where}: {processed} events in {total_ns} ns have no throughput; take the row out")
    return Row(
        file=file,
        kind="log_file",
        printed=Printed(
            style=OLD_STYLE if len(cells) == max(LENGTHS) else "",
            threads=threads,
            events=events,
            warm=warm,
            processed=processed,
            directory=cells[0],
        ),
        event_time_ns=total_ns / processed,
        throughput_per_s=processed * NS_PER_S / total_ns,
        warm_event_time_ns=warm_ns / warm if warm else None,
        processed=processed,
        total_ns=float(total_ns),
    )
