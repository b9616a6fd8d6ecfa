"""From a Plan to a finished run directory, tables and report included: what command line and library share."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from analysis.perf_analyzer import write_csv
from analysis.readable import counted
from analysis.report import write_report
from analysis.runs import Run, open_run
from inputs.source import open_source
from loadgen.endpoint import UNIX, Endpoint, Prometheus, Tls
from loadgen.errors import PlanError
from loadgen.ladder import Ladder
from loadgen.plan import (
    MAX_IN_FLIGHT,
    Answers,
    Arrivals,
    ByCount,
    ByPrecision,
    ByTime,
    Cells,
    ClosedLoop,
    Companion,
    Generated,
    InputData,
    Load,
    OpenLoop,
    PerfJson,
    Plan,
    Prepared,
    Search,
    Stopping,
    Synthetic,
    TransportName,
    checked,
)
from loadgen.pointlog import load_words
from loadgen.progress import Observer, Quiet
from loadgen.ranges import concurrency_levels, rate_levels
from loadgen.run import Job, points_of, run
from loadgen.rundir import EventLog, RunDirectory
from loadgen.steady import LOOK_GROWTH
from loadgen.windows import AGREEING, STRETCH, ByWindows

METRICS_PORT = 8002
DEFAULT_PORTS = {"grpc": 8001, "http": 8000}
EXPECTED_PROBES = {"rate": "14 of them, seven to twelve minutes with short ones", "concurrency": "4 to 10 of them"}
CELLS_OPTIONS = {
    "overlay": "--overlay",
    "merge_duplicates": "--merge-duplicates",
    "numbers": "--event-range",
    "encoder": "--encoder",
    "module_maps": "--module-map",
}
STOPPING = "stopping: awaiting what is in flight, then sealing (Ctrl-C again to leave at once)"


def sweep(**options: object) -> Run:
    """Do what `sweep_async` does and return its result; for scripts, where no event loop is running.

    Ctrl-C once ends the sweep early and returns what was measured.

    Raises:
        PlanError: called inside a running event loop, as in a notebook, or a wrong option.
    """
    with contextlib.suppress(RuntimeError):
        asyncio.get_running_loop()
        raise PlanError("an event loop is running here (a notebook?): write `await loadgen.sweep_async(...)`")
    plan, root = plan_of(**options)  # type: ignore[arg-type]
    return asyncio.run(carry_out(plan, root, Quiet()))


async def sweep_async(**options: object) -> Run:
    """Measure a model over a range of concurrencies; options as for `plan_of`.

    Returns:
        The sealed run: `points()`, `records()` and `samples()` are the polars tables of its directory.

    Raises:
        PlanError, TargetError, FleetError: as they say; what had been measured by then is sealed first.
    """
    plan, root = plan_of(**options)  # type: ignore[arg-type]
    return await carry_out(plan, root, Quiet())


def plan_of(  # noqa: PLR0913 - each is one option of the command line
    *,
    model: str,
    input_data: str | Path | Sequence[str | Path] | InputData,
    url: str = "",
    protocol: Literal["grpc", "http"] = "grpc",
    version: str = "",
    tls: Tls | None = None,
    headers: Mapping[str, str] | None = None,
    transport: TransportName = "auto",
    connections: int = 1,
    keepalive_s: float = 0.0,
    compression: Literal["none", "gzip", "deflate"] = "none",
    workers: int = 1,
    concurrency: str | int | Iterable[int] | None = None,
    rate: str | float | Iterable[float] | None = None,
    arrivals: Arrivals = "constant",
    cv: float = 1.0,
    max_in_flight: int = MAX_IN_FLIGHT,
    loads: Sequence[Load] = (),
    stopping: Stopping | None = None,
    warmup_ms: int = 2000,
    window_ms: int | None = None,
    repeats: int = 1,
    point_order: Literal["sequential", "shuffle", "interleave"] = "sequential",
    percents: Sequence[float] = (),
    slo: str = "",
    search: Search | None = None,
    companions: Sequence[Companion] = (),
    model_weight: float = 1.0,
    composing_models: Sequence[str] = (),
    answers: Answers = "none",
    spin_us: int = 1200,
    deadline_ms: int = 300_000,
    metrics_url: str | Sequence[str] | None = "",
    metrics_headers: Mapping[str, str] | None = None,
    metrics_interval_ms: int = 1000,
    nvml: Literal["auto", "on", "off"] = "auto",
    prometheus: Prometheus | None = None,
    replicas: int = 0,
    seed: int = 0,
    batch: int = 1,
    order: Literal["shuffle", "sequential", "random"] = "shuffle",
    weights: Sequence[float] = (),
    sequence_length: int = 0,
    ready_timeout_s: float = 10.0,
    name: str | None = None,
    output: str | Path = "runs",
) -> tuple[Plan, Path]:
    """Turn options into a checked Plan and the folder its run goes below.

    `input_data` is a path (perf_analyzer JSON, cells CSV, a folder or pattern of them, a prepared corpus), several,
    or one of `loadgen.plan`'s input types. `concurrency` and `rate` (requests a second, an open loop) are a number,
    a list, or `start:end:step`, concurrency 1 if nothing is given; `loads` are further ones. A point is measured
    until it is precise enough (`stopping`, `ByPrecision()` if not given), or for `window_ms` after `warmup_ms`.
    `url` is HOST:PORT, localhost with Triton's own port of `protocol` if empty. `slo` (`p99 < 500ms`) gives every
    point its goodput; a `search` finds its loads itself. `companions` are further models, which take requests in
    proportion to their weights and `model_weight`. `headers` go with every call. `composing_models` are called by the
    model (BLS); an ensemble tells its own. Of `answers` nothing is kept, a `digest`, or with `decode` a few too.
    `order` and `weights` are of the requests (of the streams, for a model that keeps state), as in `corpus.passes`;
    `metrics_url` (one, or one a replica) "" means port 8002 of the same host, None that no page is polled.
    `prometheus` is asked once the run is over; `replicas` are behind a balancer at `url` (0: found out).
    A connection that was silent for `keepalive_s` is pinged (0: never).

    Raises:
        PlanError: an option is out of range or does not parse.
    """
    url = url or f"localhost:{DEFAULT_PORTS[protocol]}"
    pages = default_metrics_url(url) if metrics_url in ("", ()) else metrics_url
    urls = (pages,) if isinstance(pages, str) else tuple(pages or ())
    grpc, http = (url, "") if protocol == "grpc" else ("", url)
    sent = dict(headers or {}), dict(metrics_headers or {})
    asked = {"prometheus": prometheus, "replicas": replicas, "keepalive_s": keepalive_s}
    endpoint = Endpoint(grpc, model, version, urls, tls, *sent, http=http, **asked)  # type: ignore[arg-type]
    plan = Plan(
        endpoint=endpoint,
        inputs=input_of(input_data),
        loads=(*loads, *loads_of(concurrency, rate, arrivals, cv, max_in_flight, otherwise=not (loads or search))),
        stopping=stopping or (ByPrecision() if window_ms is None else ByTime(window_ms, warmup_ms)),
        name=name or model,
        repeats=repeats,
        point_order=point_order,
        percents=tuple(map(float, percents)),
        slo=slo,
        search=search,
        companions=tuple(companions),
        model_weight=float(model_weight),
        composing_models=tuple(composing_models),
        answers=answers,
        transport=transport,
        connections=connections,
        compression=compression,
        workers=workers,
        spin_us=spin_us,
        deadline_ms=deadline_ms,
        metrics_interval_ms=metrics_interval_ms,
        nvml=nvml,
        seed=seed,
        batch=batch,
        order=order,
        weights=tuple(map(float, weights)),
        sequence_length=sequence_length,
        ready_timeout_s=ready_timeout_s,
    )
    return checked(plan), Path(output)


async def carry_out(
    plan: Plan,
    root: Path,
    observer: Observer,
    *,
    cached: bool = True,
    beside: Callable[[EventLog], None] | None = None,
) -> Run:
    """Run a plan below `root`, write its CSV and its report, and return the sealed run.

    With `cached`, inputs that were encoded for an earlier run are taken from the user's cache. `beside` is given the
    run's log, to tell it of what happens beside the run.
    Ctrl-C and SIGTERM end it early but whole, where signals can be handled (the main thread).
    """
    source, companions = open_source(plan.inputs), tuple(open_source(each.inputs) for each in plan.companions)
    interrupt = asyncio.Event()
    try:
        async with interruptible(interrupt, observer):
            directory = await run(Job(plan, source, observer, interrupt, companions, cached, beside), root)
    finally:
        observer.close()
    return write_outputs(directory)


def write_outputs(directory: RunDirectory) -> Run:
    """Write `points.csv` and `report.html` of a sealed run."""
    sealed = open_run(directory.path)
    write_csv(sealed, directory.points_csv)
    write_report(directory.path, directory.report)
    return sealed


def dry_run(plan: Plan) -> Iterator[str]:
    """Yield a line a point, and how long the run will take, without asking any server.

    Raises:
        PlanError: the inputs are missing.
    """
    source = open_source(plan.inputs)
    planned = points_of(plan)
    yield f"target: {plan.endpoint.model} at {plan.endpoint.address}"
    yield f"inputs: {source.description}"
    for each in plan.companions:
        weights = f"weight {each.weight:g} to {plan.model_weight:g}"
        yield f"companion: {each.model}, {weights}, inputs {open_source(each.inputs).description}"
    if plan.search is not None:
        yield f"search: the highest {plan.search.over} that keeps {plan.search.slo}"
        lengths = f"{plan.search.probe_s:g} to {plan.search.max_probe_s:g} s"
        yield f"probes of {lengths}, about {EXPECTED_PROBES[plan.search.over]}"
        return
    if plan.ladder is not None:
        yield from _ladder_words(plan.ladder, plan.stopping)
        return
    for point in planned:
        again = f", repeat {point.repeat}" if plan.repeats > 1 else ""
        yield f"{point.number:>4}  {load_words(point.load)}{again}"
    least_s, most_s = (f"{len(planned) * each_s:.0f}" for each_s in point_seconds(plan.stopping))
    seconds = f"{least_s} s" if least_s == most_s else f"{least_s} to {most_s} s"
    yield f"{counted(len(planned), 'point')}, {seconds} and the time to drain"


def _ladder_words(ladder: Ladder, stopping: Stopping) -> Iterator[str]:
    end, steps = f"{ladder.end:g}" if ladder.end else "the latency limit", f"steps of {ladder.step:g}"
    yield f"{ladder.over} from {ladder.start:g} to {end}, {'bisection' if ladder.binary else steps}"
    yield "a level takes {:.0f} to {:.0f} s and the time to drain".format(*point_seconds(stopping))


def point_seconds(stopping: Stopping) -> tuple[float, float]:
    """Return the shortest and the longest time that a point takes, without its drain."""
    match stopping:
        case ByTime(window_ms, warmup_ms):
            return (window_ms + warmup_ms) / 1000, (window_ms + warmup_ms) / 1000
        case ByPrecision(min_s=min_s, max_s=max_s):
            return min(max_s, min_s * LOOK_GROWTH), max_s
        case ByCount(max_s=max_s):
            return 0.0, max_s
        case ByWindows() as asked:
            window_s = STRETCH * asked.interval_ms / 1000
            return AGREEING * window_s, asked.max_trials * window_s


def input_of(given: str | Path | Sequence[str | Path] | InputData, **cells: Any) -> InputData:  # noqa: ANN401
    """Tell the kind of the inputs by their file names; paths become absolute, so that a plan can be run anywhere.

    `cells` are further fields of `Cells`, which other kinds have no use for.

    Raises:
        PlanError: kinds mixed, no path at all, or an option for cells given with something else.
    """
    if isinstance(given, PerfJson | Cells | Synthetic | Generated | Prepared):
        return given
    paths = [given] if isinstance(given, str | Path) else list(given)
    if not paths:
        raise PlanError("no inputs: give --input-data a JSON file, a cells CSV or a folder of them")
    absolute = tuple(os.path.abspath(path) for path in paths)  # noqa: PTH100 - resolve() would follow links
    kinds = {_kind(Path(path)) for path in absolute}
    if len(kinds) > 1:
        raise PlanError("--input-data: give either JSON files or cells CSVs, not both")
    kind = kinds.pop()
    if kind is Cells:
        return Cells(absolute, **cells)
    for name, value in cells.items():
        if value != getattr(Cells(()), name):
            raise PlanError(f"{CELLS_OPTIONS.get(name, name)}: is for cells CSVs; these inputs are tensors already")
    if kind is PerfJson:
        return PerfJson(absolute)
    if len(absolute) > 1:
        raise PlanError("--input-data: give one prepared corpus")
    return Prepared(absolute[0])


def _kind(path: Path) -> type[PerfJson | Cells | Prepared]:
    """Say what a path holds; a folder of raw files is perf_analyzer's kind."""
    if path.suffix == ".corpus":
        return Prepared
    if path.is_dir():
        return Cells if any(path.glob("event*-cells.csv")) or not any(path.iterdir()) else PerfJson
    return PerfJson if path.suffix == ".json" else Cells


def loads_of(  # noqa: PLR0913 - as the options
    concurrency: str | int | Iterable[int] | None,
    rate: str | float | Iterable[float] | None,
    arrivals: Arrivals = "constant",
    cv: float = 1.0,
    max_in_flight: int = MAX_IN_FLIGHT,
    *,
    otherwise: bool = True,
) -> tuple[Load, ...]:
    """Return one closed loop a concurrency and one open loop a rate; concurrency 1 if neither is given.

    Raises:
        PlanError: a text that is not `start:end:step`.
    """
    if concurrency is None and rate is None:
        return (ClosedLoop(1),) if otherwise else ()
    levels = concurrency_levels(concurrency) if isinstance(concurrency, str) else _listed(concurrency)
    rates = rate_levels(rate) if isinstance(rate, str) else _listed(rate)
    closed = tuple(ClosedLoop(int(level)) for level in levels)
    return (*closed, *(OpenLoop(float(each), arrivals, cv, max_in_flight) for each in rates))


def _listed(given: float | Iterable[float] | None) -> list[float]:
    if given is None:
        return []
    return [given] if isinstance(given, int | float) else list(given)


def default_metrics_url(url: str) -> str:
    """Return Triton's default metrics page of the host in `host:port`."""
    host = "localhost" if url.startswith(UNIX) else url.rsplit(":", 1)[0] if ":" in url else url
    return f"http://{host}:{METRICS_PORT}/metrics"


@asynccontextmanager
async def interruptible(interrupt: asyncio.Event, observer: Observer) -> AsyncIterator[None]:
    """Set `interrupt` at the first Ctrl-C or SIGTERM while the context lasts; at the second, cancel the task."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        if interrupt.is_set():
            task.cancel()
            return
        interrupt.set()
        observer.warn(STOPPING)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
