"""Writers of perf_analyzer's files as version 2.49 lays them out, for tests that read them back; own values only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from analysis.perf_analyzer import load
from analysis.perf_analyzer.tables import Imported
from loadgen.errors import PlanError

MICROSECONDS_MAX = 2**53 // 1000
GPUS = ("Avg GPU Utilization", "Avg GPU Power Usage", "Max GPU Memory Usage", "Total GPU Memory")
UNITS = ("%", " watts", " bytes", " bytes")
STAGES = ("queue", "compute_input", "compute_infer", "compute_output")


@dataclass(frozen=True)
class Shape:
    """What a CSV of a run has: mode, server statistics, cache, decoupled, percentiles, verbose, metrics."""

    by_rate: bool = False
    server: bool = True
    cache: bool = False
    decoupled: bool = False
    percentiles: tuple[int, ...] = (50, 90, 95, 99)
    verbose: bool = True
    average: bool = True
    metrics: bool = False


@dataclass(frozen=True)
class Said:
    """What is said of one level, in perf_analyzer's units."""

    level: int
    throughput: float
    requests: int
    times: dict[str, int]
    percentiles: tuple[int, ...]
    gpus: dict[str, tuple[float, float, int, int]] = field(default_factory=dict)


def read_or_refused(folder: Path, content: bytes, name: str = "file") -> Imported | None:
    """Write a file and read it; None where it is refused, which must be in one line. Any other exception passes."""
    path = folder / name
    path.write_bytes(content)
    refusal = ""
    try:
        return load.read(path)
    except PlanError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) == 1
    assert str(path) in refusal
    return None


def reasons(of: Imported) -> list[tuple[str, str]]:
    """Return the warnings of an import as (level, reason)."""
    return [(warning.level, warning.reason) for warning in of.warnings]


TIMES = ("send", "recv", "network", *STAGES, "hit", "miss", "mean", "std", "wait", "request", "overhead", "response")


@st.composite
def saids(draw: st.DrawFn, shape: Shape) -> list[Said]:
    """Draw the levels of a run, no level twice."""
    whole = st.integers(0, MICROSECONDS_MAX)
    gpu = st.tuples(st.integers(0, 100).map(lambda x: x / 100), whole.map(float), whole, st.integers(2**20, 2**40))
    names = st.text("GPU-0123456789abcdef", min_size=5, max_size=12)
    count = len(shape.percentiles)
    one = st.builds(
        Said,
        level=st.integers(1, 2**31),
        throughput=st.floats(1e-4, 1e6).map(lambda x: float(f"{x:.6g}")),
        requests=st.integers(1, 2**40),
        times=st.fixed_dictionaries(dict.fromkeys(TIMES, whole)),
        percentiles=st.lists(whole, min_size=count, max_size=count).map(sorted).map(tuple),
        gpus=st.dictionaries(names, gpu.map(_large), max_size=3) if shape.metrics else st.just({}),
    )
    return draw(st.lists(one, min_size=1, max_size=4, unique_by=lambda said: said.level))


def _large(gpu: tuple[float, float, int, int]) -> tuple[float, float, int, int]:
    return gpu[0], gpu[1], gpu[2] + 2**20, gpu[3]


SHAPES = st.builds(
    Shape,
    by_rate=st.booleans(),
    server=st.booleans(),
    cache=st.booleans(),
    decoupled=st.booleans(),
    percentiles=st.sampled_from([(50, 90, 95, 99), (50, 75, 90, 95, 99), (7, 50, 90, 95, 99)]),
    verbose=st.booleans(),
    average=st.booleans(),
    metrics=st.booleans(),
)


def csv_text(shape: Shape, said: Sequence[Said]) -> str:
    """Return the CSV: rows by throughput, no trailing comma."""
    rows = [dict(_columns(shape, one)) for one in sorted(said, key=lambda one: one.throughput)]
    return "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows), ""])


def _columns(shape: Shape, said: Said) -> list[tuple[str, str]]:
    times = {name: str(value) for name, value in said.times.items()}
    cells = [("Request Rate" if shape.by_rate else "Concurrency", str(said.level))]
    cells += [("Inferences/Second", f"{said.throughput:.6g}")]
    cells += [("Response Throughput", f"{said.throughput:.6g}")] if shape.decoupled else []
    cells += [("Client Send", times["send"])]
    if shape.server:
        names = ("Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output")
        cells += [("Network+Server Send/Recv", times["network"])]
        cells += list(zip(names, (times[name] for name in STAGES), strict=True))
        cells += [("Server Cache Hit", times["hit"]), ("Server Cache Miss", times["miss"])] if shape.cache else []
    cells += [("Client Recv", times["recv"])]
    cells += [
        (f"p{percent} latency", str(value))
        for percent, value in zip(shape.percentiles, said.percentiles, strict=True)
    ]
    if shape.verbose:
        cells += [("Avg latency", times["mean"])] if shape.average else []
        cells += [("request/response", times["request"]), ("response wait", times["wait"])]
    if shape.verbose and shape.metrics:
        for place, name in enumerate(GPUS):
            cells += [(name, "".join(f"{gpu}:{said.gpus[gpu][place]:.17g};" for gpu in sorted(said.gpus)))]
    return cells


def stdout_text(shape: Shape, said: Sequence[Said], *, passes: bool = False) -> str:
    """Return the standard output of a run; `passes` as with `-v`."""
    lines = [
        " Successfully read data for 1 stream/streams with 1 step/steps.",
        "*** Measurement Settings ***",
        "  Batch size: 1",
        "  Service Kind: TRITON",
        "  Measurement window: 5000 msec",
        "  Using synchronous calls for inference",
        "",
    ]
    for one in said:
        lines += _level_lines(shape, one, passes=passes)
    lines += ["Inferences/Second vs. Client Average Batch Latency"]
    word = "Request Rate" if shape.by_rate else "Concurrency"
    latency = {one.level: one.times["mean"] if shape.average else one.percentiles[-1] for one in said}
    if not shape.average:
        lines[-1] = f"Inferences/Second vs. Client p{shape.percentiles[-1]} Batch Latency"
    lines += [
        f"{word}: {one.level}, throughput: {one.throughput:.6g} infer/sec, latency {latency[one.level]} usec"
        for one in said
    ]
    return "\n".join([*lines, ""])


def _level_lines(shape: Shape, said: Said, *, passes: bool) -> list[str]:
    times, rate = said.times, f"{said.throughput:.6g}"
    begins = f"Request Rate: {said.level} inference requests per seconds"
    lines = [begins if shape.by_rate else f"Request concurrency: {said.level}"]
    if passes:
        average = f"Avg latency: {times['mean']} usec (std {times['std']} usec). "
        lines += [f"  Pass [{number}] throughput: {rate} infer/sec. {average}" for number in (1, 2, 3)]
    lines += ["  Client: ", f"    Request count: {said.requests}", f"    Throughput: {rate} infer/sec"]
    lines += [f"    Response Throughput: {rate} infer/sec"] if shape.decoupled else []
    if shape.average:
        lines += [f"    Avg latency: {times['mean']} usec (standard deviation {times['std']} usec)"]
    lines += [
        f"    p{percent} latency: {value} usec"
        for percent, value in zip(shape.percentiles, said.percentiles, strict=True)
    ]
    split = f"(un)marshal request/response {times['request']} usec + response wait {times['wait']} usec"
    lines += [f"    Avg gRPC time: {times['response']} usec ({split})"]
    if shape.server:
        stages = " + ".join(f"{name.replace('_', ' ')} {times[name]} usec" for name in STAGES)
        lines += [
            "  Server: ",
            f"    Inference count: {said.requests}",
            f"    Execution count: {said.requests}",
            f"    Successful request count: {said.requests}",
            f"    Avg request latency: {times['response']} usec (overhead {times['overhead']} usec + {stages})",
            "",
        ]
    if shape.metrics:
        lines += ["  Server Prometheus Metrics: "]
        for place, (name, unit) in enumerate(zip(GPUS, UNITS, strict=True)):
            scale = 100 if unit == "%" else 1
            lines += [f"    {name}:"]
            lines += [f"      {gpu} : {said.gpus[gpu][place] * scale:.17g}{unit}" for gpu in sorted(said.gpus)]
    return lines


def export_text(levels: Sequence[dict[str, Any]]) -> str:
    """Return a profile export of levels, each with `mode`, `value`, `requests` and `windows`."""
    experiments = [
        {
            "experiment": {"mode": level["mode"], "value": level["value"]},
            "requests": level["requests"],
            "window_boundaries": level["windows"],
        }
        for level in levels
    ]
    facts = {"experiments": experiments, "version": "", "service_kind": "triton", "endpoint": ""}
    return json.dumps(facts, separators=(",", ":"))


def request(sent_ns: int, *done_ns: int, **facts: Any) -> dict[str, Any]:
    """Return one request of an export."""
    return {"timestamp": sent_ns, "request_inputs": {"X": [0.0]}, "response_timestamps": list(done_ns), **facts}
