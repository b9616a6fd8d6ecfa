"""How late requests leave: 5,000 a second, constant, for 30 s, on the transport without a network.

`python benchmarks/open_loop.py [RATE [SECONDS [SPIN_US]]]`: due-to-sent p50, p99, maximum, and what was skipped.
"""

import asyncio
import sys
import tempfile
from itertools import repeat
from pathlib import Path

import numpy as np

from loadgen import clock, journal, schedule
from loadgen.drive import Drive, Due
from loadgen.journal import Journal
from loadgen.plan import OpenLoop
from loadgen.records import Outcome
from loadgen.transport.null import NullTransport
from loadgen.walk import Bodies
from loadgen.worker import loop_factory


async def load(folder: Path, rate_per_s: float, seconds: float, spin_us: int) -> None:
    """Send for a while and drain."""
    transport = NullTransport(clock.now_ns, lambda _: 2 * clock.NS_PER_MS)
    with Journal(folder, worker=0) as rows:
        drive = Drive(transport, rows, Bodies([b"x"], repeat(0)), 10**12, lambda _: None)
        offsets = schedule.offsets(OpenLoop(rate_per_s), seed=0)
        drive.start(1, Due(drive, offsets, 4096, spin_us * 1000))
        await clock.sleep_ns(round(seconds * clock.NS_PER_S))
        drive.stop()
        await drive.drained()


def main() -> None:
    """Load, and read the journal."""
    given = [float(text) for text in sys.argv[1:]]
    rate_per_s, seconds, spin_us = [*given, *(5000.0, 30.0, 1200.0)[len(given) :]]
    with tempfile.TemporaryDirectory() as folder:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(load(Path(folder), rate_per_s, seconds, int(spin_us)))
        rows = journal.read_point(Path(folder), 1)
    lag_us = np.sort(rows["sent_ns"] - rows["due_ns"]) / 1000
    p50, p99 = (lag_us[round(share * (len(lag_us) - 1))] for share in (0.5, 0.99))
    skipped = int((rows["outcome"] == Outcome.UNSENT).sum())
    asked = round(rate_per_s * seconds)
    print(f"{len(rows)} of {asked} requests due, {skipped} skipped; spin {spin_us:g} us")
    print(f"due to sent: p50 {p50:.1f} us, p99 {p99:.1f} us, max {lag_us[-1]:.1f} us")


if __name__ == "__main__":
    main()
