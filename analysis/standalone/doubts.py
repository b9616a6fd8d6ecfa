"""What is suspicious about standalone results: each a sentence that names its file. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from analysis.readable import listed
from analysis.standalone.row import Row
from loadgen.clock import NS_PER_MS, NS_PER_S

AGREE = 2e-5
"""Relative: six digits are printed."""

PASSES = 2
WARM_RATIO = 2.0
FEW_EVENTS = 20
CHAIN = ("clusterization", "seeding", "finding", "fitting")
"""Words in the names of the stages that a whole reconstruction has."""


def of_row(row: Row, device: str | None, mu: float | None) -> list[str]:
    """Return the doubts about one result."""
    said = row.printed
    doubts = [*_arithmetic(row), *_amount(row)]
    if device is None:
        doubts.append("the device is not known: neither log nor file name tells it (--device)")
    if mu is None:
        doubts.append("mu is not known: neither file name nor input directory tells it (--mu)")
    elif said.mu is not None and said.mu != mu:
        doubts.append(f"mu {mu:g} is taken, but its input directory tells mu {said.mu:g}")
    if said.duplicates:
        doubts.append(f"{said.duplicates:,} duplicate cells were reported: the program summed them")
    return [f"{row.file}: {doubt}" for doubt in doubts]


def _arithmetic(row: Row) -> list[str]:
    doubts = []
    product = row.event_time_ns * row.throughput_per_s / NS_PER_S
    if abs(product - 1) > AGREE:
        doubts.append(
            f"{row.event_time_ns / NS_PER_MS:g} ms/event and {row.throughput_per_s:g} events/s do not belong together"
        )
    if row.total_ns and row.printed.processed and row.kind == "throughput":
        expected = row.event_time_ns * row.printed.processed
        if abs(row.total_ns - expected) > NS_PER_MS + AGREE * expected:
            doubts.append(
                f"{row.printed.processed} events of {row.event_time_ns / NS_PER_MS:g} ms do not make "
                f"{row.total_ns / NS_PER_MS:g} ms"
            )
    return doubts


def _amount(row: Row) -> list[str]:
    said, doubts = row.printed, []
    if row.processed is None:
        doubts.append("how many events were processed is not known")
    elif row.processed < FEW_EVENTS:
        doubts.append(f"only {row.processed} events were processed: no telling how sure the figure is")
    if row.processed and said.threads and row.processed < PASSES * said.threads:
        doubts.append(f"{row.processed} events keep {said.threads} threads busy for less than {PASSES} turns")
    if row.processed and said.events and row.processed < said.events and row.kind != "sequence":
        doubts.append(f"{row.processed} events processed of {said.events} loaded: not every event was seen")
    if said.warm == 0:
        doubts.append("there was no warm-up")
    warm = row.warm_event_time_ns
    if warm and not 1 / WARM_RATIO <= warm / row.event_time_ns <= WARM_RATIO:
        ratio = warm / row.event_time_ns
        words = f"{ratio:.2g} times as long as" if ratio > 1 else f"{1 / ratio:.2g} times shorter than"
        doubts.append(f"an event of the warm-up took {words} one afterwards")
    names = " ".join(row.stages_ns).lower()
    if row.stages_ns and (absent := [stage for stage in CHAIN if stage not in names]):
        doubts.append(f"its times have no {listed(absent)}: not the whole chain")
    if said.deterministic is False and said.events and said.events > 1:
        doubts.append("events came in random order, so that two logs are not of the same work")
    return doubts


def of_all(rows: Sequence[tuple[Row, str | None, float | None]]) -> list[str]:
    """Return the doubts about results beside each other: two of one thing, versions or threads that differ."""
    doubts = []
    same = Counter((device, mu, row.printed.threads, row.kind) for row, device, mu in rows)
    for (device, mu, _, _), count in same.items():
        if count > 1 and device is not None and mu is not None:
            doubts.append(f"{count} results are of {device} at mu {mu:g}: each is a row, and drawn")
    versions = {row.printed.version or row.printed.style for row, _, _ in rows} - {""}
    if len(versions) > 1:
        doubts.append(f"several versions of traccc ({listed(sorted(versions))}): compare within one only")
    doubts += _differing_threads(rows)
    return doubts


def _differing_threads(rows: Iterable[tuple[Row, str | None, float | None]]) -> list[str]:
    threads: defaultdict[str, set[int]] = defaultdict(set)
    for row, device, _ in rows:
        if device is not None and row.printed.threads is not None:
            threads[device].add(row.printed.threads)
    return [
        f"{device} ran with {listed(sorted(counts))} threads: drawn as a series each"
        for device, counts in threads.items()
        if len(counts) > 1
    ]
