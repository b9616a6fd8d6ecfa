"""The command line: options -> Plan -> run. Names are perf_analyzer's wherever it has one."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from loadgen import atomic
from loadgen.entry import enter
from loadgen.errors import PlanError
from loadgen.options import (
    Batch,
    Burstiness,
    Cache,
    CollectMetrics,
    ConcurrencyRange,
    Csv,
    DeadlineMs,
    Distribution,
    DryRun,
    EachInput,
    EncoderName,
    EventRange,
    Events,
    FailIf,
    InputPaths,
    Instances,
    JsonFlag,
    MaxConcurrency,
    MaxInFlight,
    MaxProbeS,
    MaxTime,
    MergeDuplicates,
    MetricsIntervalMs,
    MetricsUrl,
    MinTime,
    Model,
    ModuleMap,
    Mu,
    Name,
    Objective,
    OrderName,
    Output,
    Over,
    Overlay,
    Percentile,
    PointOrder,
    Poisson,
    Precision,
    ProbeS,
    ProfileOption,
    QuietFlag,
    RateRange,
    ReadyTimeoutS,
    Repeats,
    RequestCount,
    RequestIntervals,
    Saturation,
    SearchDistribution,
    Seed,
    SequenceLength,
    Shape,
    SignatureName,
    Slo,
    Speed,
    SpinUs,
    StepsOption,
    Strict,
    StringData,
    StringLength,
    Stub,
    Url,
    Version,
    WarmupMs,
    Weights,
    WindowMs,
)
from loadgen.plan import (
    MAX_IN_FLIGHT,
    ByCount,
    ByPrecision,
    ByTime,
    ConcurrencySteps,
    Generated,
    InputData,
    Load,
    Plan,
    Profile,
    Replay,
    Search,
    Stopping,
    Synthetic,
    read_plan,
)
from loadgen.progress import JsonLines, LiveTable, Observer, PlainLines, Quiet
from loadgen.ranges import (
    input_option,
    profile_option,
    range_option,
    shape_option,
    steps_option,
    weights_option,
)

NOT_STEADY, CROSSED, INTERRUPTED = 5, 6, 130
EXIT_CODES = """Exit codes: 0 done; 1 a bug of ours; 2 a wrong option, plan or input; 3 the server is absent, not
ready or refuses; 4 the worker or the disk failed; 5 a point is not steady (--strict); 6 a point
crosses a --fail-if; 130 stopped by Ctrl-C or SIGTERM (what was measured is sealed)."""

app = typer.Typer(
    help=f"Load generator for NVIDIA Triton.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def sweep(  # noqa: PLR0913, PLR0917 - each is one option
    model: Model,
    input_data: InputPaths,
    url: Url = "localhost:8001",
    model_version: Version = "",
    mu: Mu = 200.0,
    events: Events = 10,
    seed: Seed = 0,
    shape: Shape = None,
    input_: EachInput = None,
    string_length: StringLength = 128,
    string_data: StringData = None,
    overlay: Overlay = 1,
    merge_duplicates: MergeDuplicates = False,
    event_range: EventRange = "",
    encoder: EncoderName = "",
    module_map: ModuleMap = None,
    poisson: Poisson = False,
    cache: Cache = True,
    batch: Batch = 1,
    order: OrderName = "shuffle",
    weights: Weights = "",
    sequence_length: SequenceLength = 0,
    concurrency_range: ConcurrencyRange = None,
    request_rate_range: RateRange = None,
    request_distribution: Distribution = "constant",
    cv: Burstiness = 1.0,
    max_in_flight: MaxInFlight = MAX_IN_FLIGHT,
    profile: ProfileOption = "",
    concurrency_steps: StepsOption = "",
    request_intervals: RequestIntervals = "",
    speed: Speed = 1.0,
    spin_us: SpinUs = 1200,
    measurement_interval: WindowMs = None,
    warmup_ms: WarmupMs = 2000,
    request_count: RequestCount = None,
    precision: Precision = 0.02,
    min_time: MinTime = 20.0,
    max_time: MaxTime = 120.0,
    repeats: Repeats = 1,
    point_order: PointOrder = "sequential",
    percentile: Percentile = None,
    slo: Slo = "",
    strict: Strict = False,
    fail_if: FailIf = None,
    dry_run: DryRun = False,
    deadline_ms: DeadlineMs = 300_000,
    collect_metrics: CollectMetrics = True,
    metrics_url: MetricsUrl = "",
    metrics_interval: MetricsIntervalMs = 1000,
    ready_timeout_s: ReadyTimeoutS = 10.0,
    output: Output = Path("runs"),
    name: Name = "",
    csv: Csv = "",
    quiet: QuietFlag = False,
    json: JsonFlag = False,
) -> None:
    """Measure a served model at each concurrency of a range."""
    from loadgen import api  # noqa: PLC0415 - tables and charts load only when they are needed

    further: list[Load] = [
        *(
            [Profile(profile_option(profile), arrivals=request_distribution, cv=cv, max_in_flight=max_in_flight)]
            if profile
            else []
        ),
        *([ConcurrencySteps(steps_option(concurrency_steps))] if concurrency_steps else []),
    ]
    if request_intervals:
        recorded = os.path.abspath(request_intervals)  # noqa: PTH100
        further.append(Replay(recorded, speed=speed, max_in_flight=max_in_flight))
    inputs = _inputs(
        input_data,
        Made(
            mu,
            events,
            seed,
            poisson,
            tuple(shape or ()),
            tuple(input_ or ()),
            string_length,
            string_data,
        ),
        overlay=overlay,
        merge_duplicates=merge_duplicates,
        numbers=range_option(event_range) if event_range else None,
        encoder=encoder,
        module_maps=tuple(os.path.abspath(path) for path in module_map or []),  # noqa: PTH100 - links are left as they are
    )
    plan, root = api.plan_of(
        model=model,
        input_data=inputs,
        url=url,
        version=model_version,
        concurrency=concurrency_range,
        rate=request_rate_range,
        arrivals=request_distribution,
        cv=cv,
        max_in_flight=max_in_flight,
        loads=further,
        stopping=_stopping(measurement_interval, warmup_ms, request_count, precision, min_time, max_time),
        repeats=repeats,
        point_order=point_order,
        percents=percentile or (),
        slo=slo,
        spin_us=spin_us,
        deadline_ms=deadline_ms,
        metrics_url=metrics_url if collect_metrics else None,
        metrics_interval_ms=metrics_interval,
        seed=seed,
        batch=batch,
        order=order,
        weights=weights_option(weights) if weights else (),
        sequence_length=sequence_length,
        ready_timeout_s=ready_timeout_s,
        name=name or None,
        output=output,
    )
    _carry_out(
        plan, root, Judging(strict, tuple(fail_if or ())), observer(quiet=quiet, json=json), csv, cache, dry_run
    )


@app.command()
def search(  # noqa: PLR0913, PLR0917 - each is one option
    model: Model,
    input_data: InputPaths,
    slo: Objective,
    over: Over = "rate",
    url: Url = "localhost:8001",
    model_version: Version = "",
    mu: Mu = 200.0,
    events: Events = 10,
    seed: Seed = 0,
    shape: Shape = None,
    overlay: Overlay = 1,
    event_range: EventRange = "",
    batch: Batch = 1,
    request_distribution: SearchDistribution = "poisson",
    cv: Burstiness = 1.0,
    saturation: Saturation = 16,
    max_concurrency: MaxConcurrency = 64,
    probe_s: ProbeS = 20.0,
    max_probe_s: MaxProbeS = 600.0,
    strict: Strict = False,
    dry_run: DryRun = False,
    deadline_ms: DeadlineMs = 300_000,
    collect_metrics: CollectMetrics = True,
    metrics_url: MetricsUrl = "",
    metrics_interval: MetricsIntervalMs = 1000,
    ready_timeout_s: ReadyTimeoutS = 10.0,
    output: Output = Path("runs"),
    name: Name = "",
    quiet: QuietFlag = False,
    json: JsonFlag = False,
) -> None:
    """Find the highest rate, or concurrency, that keeps an objective; --strict exits with 5 if none is certified.

    Examples: search -m traccc-gpu --input-data events/ --slo 'p99 < 500ms' --over rate;
    search -m traccc-gpu --input-data synthetic --slo 'service_p95 < 2s' --over concurrency
    """
    from loadgen import api  # noqa: PLC0415

    cells = {"overlay": overlay, "numbers": range_option(event_range) if event_range else None}
    plan, root = api.plan_of(
        model=model,
        input_data=_inputs(input_data, Made(mu, events, seed, shapes=tuple(shape or ())), **cells),
        url=url,
        version=model_version,
        search=Search(slo, over, request_distribution, cv, saturation, max_concurrency, probe_s, max_probe_s),
        deadline_ms=deadline_ms,
        metrics_url=metrics_url if collect_metrics else None,
        metrics_interval_ms=metrics_interval,
        seed=seed,
        batch=batch,
        ready_timeout_s=ready_timeout_s,
        name=name or f"{model}-search",
        output=output,
    )
    _carry_out(plan, root, Judging(strict), observer(quiet=quiet, json=json), "", True, dry_run)  # noqa: FBT003


@app.command("run")
def run_plan(  # noqa: PLR0913, PLR0917 - each is one option
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A TOML or JSON plan; every run has its plan.json.")
    ],
    strict: Strict = False,
    fail_if: FailIf = None,
    dry_run: DryRun = False,
    cache: Cache = True,
    output: Output = Path("runs"),
    csv: Csv = "",
    quiet: QuietFlag = False,
    json: JsonFlag = False,
) -> None:
    """Carry out a plan file."""
    judging = Judging(strict, tuple(fail_if or ()))
    _carry_out(read_plan(plan_file), output, judging, observer(quiet=quiet, json=json), csv, cache, dry_run)


@app.command()
def demo(  # noqa: PLR0913, PLR0917 - each is one option
    instances: Instances = 2,
    signature: SignatureName = "odd",
    mu: Mu = 20.0,
    events: Events = 10,
    seed: Seed = 0,
    concurrency_range: ConcurrencyRange = "1:6:1",
    measurement_interval: WindowMs = 5000,
    warmup_ms: WarmupMs = 2000,
    output: Output = Path("runs"),
    stub: Stub = False,
    quiet: QuietFlag = False,
    json: JsonFlag = False,
) -> None:
    """Serve the stand-in model on a Triton of our own, sweep it with synthetic events, and report."""
    from loadgen import api  # noqa: PLC0415

    async def demonstrate() -> str:
        watcher = observer(quiet=quiet, json=json)
        atomic.make_folder(output)
        async with _own_server(signature, instances, output / "demo-server.log", stub, watcher.announce) as server:
            plan, root = api.plan_of(
                model=server.model,
                input_data=Synthetic(mu, events, seed),
                url=server.grpc,
                metrics_url=server.metrics_url,
                concurrency=concurrency_range,
                warmup_ms=warmup_ms,
                window_ms=measurement_interval,
                seed=seed,
                name="demo",
                output=output,
            )
            return str((await _sweep(plan, root, watcher)).manifest["ended"])

    ended = asyncio.run(demonstrate())
    raise typer.Exit(INTERRUPTED if ended == "interrupted" else 0)


@app.command()
def serve(instances: Instances = 2, signature: SignatureName = "odd", stub: Stub = False) -> None:
    """Serve the stand-in model on free ports until Ctrl-C."""

    async def stand() -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "server.log"
            async with _own_server(signature, instances, log, stub, typer.echo) as server:
                typer.echo(f"{server.model}: gRPC {server.grpc}, metrics {server.metrics_url}")
                typer.echo(
                    f"try: python -m loadgen sweep -m {server.model} -u {server.grpc} "
                    f"--metrics-url {server.metrics_url} --input-data synthetic --mu 20"
                )
                await asyncio.Event().wait()

    try:
        asyncio.run(stand())
    except KeyboardInterrupt:
        typer.echo("stopped")


@app.command()
def seal(run: Annotated[Path, typer.Argument(help="A run directory without a manifest.")]) -> None:
    """Rescue a run that crashed or was killed: every request that was recorded becomes Parquet."""
    from loadgen import api, finish  # noqa: PLC0415
    from loadgen.rundir import RunDirectory  # noqa: PLC0415

    directory = RunDirectory(run)
    if directory.manifest.exists():
        typer.echo(f"{run}: is sealed already")
        return
    manifest = finish.rescue(directory)
    api.write_outputs(directory)
    typer.echo(f"{run}: sealed: {manifest.rows} requests, {manifest.points} points, {manifest.samples} samples")


def observer(*, quiet: bool, json: bool) -> Observer:
    """Choose how to show a run: JSON lines, nothing, a live table in a terminal, plain lines elsewhere."""
    if json:
        return JsonLines(sys.stdout)
    if quiet:
        return Quiet()
    return LiveTable(Console()) if sys.stdout.isatty() else PlainLines(sys.stdout)


def main() -> None:
    """Run the command line."""
    try:
        enter(app)
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("left at once; what was recorded is in the journal: `python -m loadgen seal RUN`", err=True)
        sys.exit(INTERRUPTED)


@dataclass(frozen=True, slots=True)
class Made:
    """Options of inputs that are made, not read."""

    mu: float = 200.0
    events: int = 10
    seed: int = 0
    poisson: bool = False
    shapes: tuple[str, ...] = ()
    each: tuple[str, ...] = ()
    string_bytes: int = 128
    string: str | None = None


def _inputs(input_data: list[str], made: Made, **cells: Any) -> InputData:  # noqa: ANN401 - fields of Cells
    """Return what `--input-data` names: synthetic, zero, random, or files."""
    from loadgen import api  # noqa: PLC0415

    if input_data == ["synthetic"]:
        encoding = cells.get("encoder", ""), cells.get("module_maps", ())
        return Synthetic(made.mu, made.events, made.seed, made.poisson, *encoding)
    match input_data:
        case ["zero" | "random" as kind]:
            shapes, each = dict(map(shape_option, made.shapes)), dict(map(input_option, made.each))
            requests = 1 if {kind, *each.values()} == {"zero"} else made.events
            return Generated(kind, requests, shapes, made.seed, each, made.string_bytes, made.string)
    return api.input_of(input_data, **cells)


@dataclass(frozen=True, slots=True)
class Judging:
    """What makes a run end with an exit code of its own."""

    strict: bool = False
    fail_if: tuple[str, ...] = ()


def _stopping(  # noqa: PLR0913, PLR0917 - each is one option
    window_ms: int | None, warmup_ms: int, requests: int | None, precision: float, min_s: float, max_s: float
) -> Stopping:
    if window_ms is not None and requests is not None:
        raise PlanError("--request-count: -p says already how long to measure; give one of them")
    if min_s > max_s:
        raise PlanError(f"--min-time {min_s:g}: is above --max-time {max_s:g}")
    if window_ms is not None:
        return ByTime(window_ms, warmup_ms)
    return ByCount(requests) if requests is not None else ByPrecision(precision, min_s=min_s, max_s=max_s)


def _carry_out(  # noqa: PLR0913, PLR0917 - a plan, what to make of it, and where to show it
    plan: Plan, root: Path, judging: Judging, watcher: Observer, csv: str, cached: bool, dry_run: bool
) -> None:
    """Carry out a plan and exit with the code that its points deserve."""
    from loadgen import api, points, thresholds  # noqa: PLC0415 - tables and charts load only when they are needed

    limits = [thresholds.parse(text, points.SCHEMA) for text in judging.fail_if]
    if dry_run:
        for line in api.dry_run(plan):
            typer.echo(line)
        return
    sealed = asyncio.run(_sweep(plan, root, watcher, csv, cached=cached))
    if sealed.manifest["ended"] == "interrupted":
        raise typer.Exit(INTERRUPTED)
    unsteady, crossed = api.faults(sealed, limits)
    if plan.search is not None:
        unsteady = api.unanswered(sealed)
    for line in crossed + (unsteady if judging.strict else []):
        typer.echo(line, err=True)
    raise typer.Exit(CROSSED if crossed else NOT_STEADY if unsteady and judging.strict else 0)


async def _sweep(plan: Plan, root: Path, watcher: Observer, csv: str = "", *, cached: bool = True) -> Any:  # noqa: ANN401
    from analysis import perf_analyzer  # noqa: PLC0415
    from loadgen import api  # noqa: PLC0415

    sealed = await api.carry_out(plan, root, watcher, cached=cached)
    if csv:
        perf_analyzer.write_csv(sealed, Path(csv))
    watcher.announce(f"report: {sealed.path / 'report.html'}")
    return sealed


@asynccontextmanager
async def _own_server(
    signature: str, instances: int, log: Path, stub: bool, announce: Callable[[str], None]
) -> AsyncIterator[Any]:
    from loadgen.server import embedded, launch  # noqa: PLC0415

    if signature not in {"odd", "itk"}:
        raise PlanError(f"--signature {signature}: is not known; write odd or itk")
    reason = "asked for with --stub" if stub else embedded.unavailable_reason()
    if reason is not None:
        announce(f"SIMULATED: no Triton here ({reason}): a stub answers after set times")
        async with launch.serve_stub(signature=signature, instances=instances, log=log) as server:
            yield server
        return
    with tempfile.TemporaryDirectory() as folder:
        announce("starting Triton with the stand-in model (it is downloaded the first time)")
        async with launch.serve_standin(
            signature=signature, instances=instances, directory=Path(folder), log=log
        ) as server:
            yield server
