"""Our figures against theory: a real client and a real server process whose service times are known.

`python benchmarks/ground_truth.py [SECONDS [PICTURE.png]]` runs the stub with constant, exponential and bimodal
service, closed and open, for so long a point; prints a table and writes docs/ground_truth.md. Theory takes the mean
service time from the server's own log, since a process on a busy machine cannot sleep exactly, and adds the time
between client and server, which is on no server's account.
"""

import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import altair as alt
import polars as pl
import theory

import loadgen
from loadgen.plan import ClosedLoop, Generated, Load, OpenLoop

Truth = dict[str, float]
Theory = Callable[[float, float, float], Truth]
"""Mean service time in the server, seconds outside it, rate achieved -> what the client should see."""

CLOSE = 0.01
SPAN = [0.7, 1.5]
TITLES = {
    "X": "Throughput",
    "mean": "Mean time",
    "p50": "Median time",
    "p90": "90th percentile",
    "p99": "99th percentile",
}
SPIN_US = 1500
"""Of the server: constant service must be constant, or instances wait for each other where theory has no wait."""


@dataclass(frozen=True)
class Case:
    """A server and a load whose answer is known."""

    name: str
    law: str
    instances: int
    mean_ms: float
    load: Load
    truth: Theory


def constant_closed(slots: int, workers: int, service_s: float, gap_s: float, _rate: float) -> Truth:
    """D/D/c."""
    rate, time_s = theory.closed_constant(slots, workers, service_s, gap_s)
    return {"X": rate, "mean": time_s + gap_s}


def exponential_closed(slots: int, workers: int, service_s: float, gap_s: float, _rate: float) -> Truth:
    """M/M/c; its percentiles where the queue is never empty, so that the gap plays no part in them."""
    rate, time_s = theory.closed_exponential(slots, workers, service_s, gap_s)
    times = {
        f"p{percent}": theory.closed_exponential_percentile(slots, workers, service_s, percent)
        for percent in (50, 99)
    }
    return {"X": rate, "mean": time_s + gap_s} | (times if slots > workers else {})


def bimodal_closed(workers: int, service_s: float, _gap_s: float, _rate: float) -> Truth:
    """Any law: instances that never rest serve c / S."""
    return {"X": workers / service_s}


def exponential_open(workers: int, service_s: float, gap_s: float, rate: float) -> Truth:
    """M/M/c."""
    mean_s, longer = theory.open_exponential(rate, workers, service_s)
    return {"mean": mean_s + gap_s} | {f"p{p}": theory.percentile(longer, p) + gap_s for p in (50, 90, 99)}


def constant_open(service_s: float, gap_s: float, rate: float) -> Truth:
    """M/D/1."""
    mean_s, longer = theory.open_constant(rate, service_s)
    return {"mean": mean_s + gap_s} | {f"p{p}": theory.percentile(longer, p) + gap_s for p in (50, 90, 99)}


CASES = [
    *(
        Case(f"closed D/D/2, N={n}", "constant", 2, 20, ClosedLoop(n), partial(constant_closed, n, 2))
        for n in (1, 2, 3, 4, 8)
    ),
    *(
        Case(f"closed M/M/4, N={n}", "exponential", 4, 50, ClosedLoop(n), partial(exponential_closed, n, 4))
        for n in (2, 8)
    ),
    Case("closed bimodal/2, N=4", "bimodal", 2, 30, ClosedLoop(4), partial(bimodal_closed, 2)),
    *(
        Case(f"open M/M/4, {rate}/s", "exponential", 4, 50, OpenLoop(rate, "poisson"), partial(exponential_open, 4))
        for rate in (40, 56)
    ),
    *(
        Case(f"open M/D/1, {rate}/s", "constant", 1, 20, OpenLoop(rate, "poisson"), constant_open)
        for rate in (25, 35)
    ),
]


@contextmanager
def serving(case: Case) -> Iterator[dict[str, str]]:
    """Run the stub as a process of its own; yields its addresses."""
    asked = {"law": case.law, "instances": case.instances, "base-ms": case.mean_ms, "ns-per-cell": 0, "seed": 5}
    asked["spin-us"] = SPIN_US
    options = [text for name, value in asked.items() for text in (f"--{name}", str(value))]
    with subprocess.Popen([sys.executable, "-m", "loadgen.server.stub", *options], stdout=subprocess.PIPE) as stub:
        assert stub.stdout is not None
        try:
            yield json.loads(stub.stdout.readline())
        finally:
            stub.terminate()


def measure(case: Case, seconds: float, folder: Path) -> dict[str, Any]:
    """Return the row of the points table."""
    with serving(case) as server:
        run = loadgen.sweep(
            model="traccc-gpu",
            url=server["grpc"],
            metrics_url=None,
            input_data=Generated("random", 8, {"GEOMETRY_ID": (20,), "FEATURES": (20, 5)}),
            loads=[case.load],
            window_ms=round(1000 * seconds),
            warmup_ms=3000,
            seed=11,
            output=folder,
        )
    return run.points().row(0, named=True)


def compared(case: Case, row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield theory beside what was measured, a quantity at a time."""
    kind = "service" if isinstance(case.load, ClosedLoop) else "response"
    service_s, gap_s = row["server_compute_infer_ns"] / 1e9, row["network_ns"] / 1e9
    # The rate that arrived, not the one asked: Poisson arrivals of a minute are one draw.
    rate = row["arrived"] / ((row["window_end_ns"] - row["window_start_ns"]) / 1e9)
    for name, value in case.truth(service_s, gap_s, rate).items():
        form, scale = ("throughput_{}per_s", 1.0) if name == "X" else (f"{kind}_{name}_{{}}ns", 1e9)
        ours, low, high = (row[form.format(end)] for end in ("", "low_", "high_"))
        within = low is not None and low <= value * scale and (high is None or value * scale <= high)
        yield {
            "case": case.name,
            "quantity": name,
            "theory": value if name == "X" else 1000 * value,
            "ours": ours if name == "X" else ours / 1e6,
            "ratio": ours / scale / value,
            "low": low / scale / value if low is not None else None,
            "high": high / scale / value if high is not None else None,
            "held": within or abs(ours / scale / value - 1) <= CLOSE,
            "verdict": row["verdict"],
        }


def picture(frame: pl.DataFrame) -> Any:
    """Draw ours over theory with our 95 % interval, a panel a quantity, all on one scale."""
    x = partial(alt.X, title="measured / theory", scale=alt.Scale(domain=SPAN, clamp=True, zero=False))
    base = alt.Chart(frame).encode(y=alt.Y("case:N", sort=None, title=None))
    colour = alt.Color(
        "held:N",
        title="within 1 % or its interval",
        scale=alt.Scale(domain=[False, True], range=["#d55e00", "#0072b2"]),
    )
    marks = base.mark_point(filled=True, size=60, opacity=1).encode(x=x("ratio:Q"), color=colour)
    bars = base.mark_rule().encode(x=x("low:Q"), x2="high:Q", color=colour)
    one = alt.Chart(frame).mark_rule(strokeDash=[4, 3], color="grey").encode(x=x("one:Q"))
    layers = alt.layer(one, bars, marks)
    panels = [
        layers.transform_filter(alt.datum.quantity == name).properties(title=TITLES[name], width=420)
        for name in TITLES
    ]
    return alt.hconcat(alt.vconcat(*panels[:2]), alt.vconcat(*panels[2:]))


def table(frame: pl.DataFrame) -> str:
    """Return the comparison as a Markdown table."""
    lines = ["| case | quantity | theory | measured | 95 % | measured / theory | holds |", "|---" * 7 + "|"]
    for row in frame.iter_rows(named=True):
        ends = [f"{row['theory'] * row[end]:.4g}" if row[end] else "?" for end in ("low", "high")]
        unit = "/s" if row["quantity"] == "X" else " ms"
        figures = f"{row['theory']:.4g}{unit} | {row['ours']:.4g}{unit} | {ends[0]} to {ends[1]} | {row['ratio']:.4f}"
        lines.append(f"| {row['case']} | {row['quantity']} | {figures} | {'yes' if row['held'] else 'no'} |")
    return "\n".join(lines)


def main() -> None:
    """Measure every case, print, write, draw."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            rows += list(compared(case, measure(case, seconds, Path(folder))))
            print(rows[-1], flush=True)
    frame = pl.DataFrame(rows)
    held = f"{frame['held'].sum()} of {frame.height}"
    text = (
        "# Against theory\n\n"
        f"Made by `python benchmarks/ground_truth.py {seconds:g}`: the simulating stub in a process of its own, one "
        f"point of {seconds:g} s a case, on {platform.machine()} with 2 shared cores. Theory (benchmarks/theory.py) "
        "with the mean service time of the server's own log; times include what lies between client and server. "
        f"{held} figures are within 1 % of theory or have it in their 95 % interval.\n\n"
        "![Measured over theory, with 95 % intervals](images/ground_truth.png)\n\n"
    )
    (Path(__file__).parents[1] / "docs" / "ground_truth.md").write_text(text + table(frame) + "\n")
    print(table(frame), held, sep="\n")
    if len(sys.argv) > 2:  # noqa: PLR2004 - script, seconds, picture
        picture(frame.with_columns(one=pl.lit(1.0))).save(sys.argv[2], scale_factor=1.5)


if __name__ == "__main__":
    main()
