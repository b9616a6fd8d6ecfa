"""The command line: options -> Plan -> run. Names are perf_analyzer's wherever it has one."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from loadgen import atomic
from loadgen.entry import enter
from loadgen.errors import PlanError
from loadgen.plan import (
    MAX_IN_FLIGHT,
    ByCount,
    ByPrecision,
    ByTime,
    ConcurrencySteps,
    Generated,
    Load,
    Plan,
    Profile,
    Replay,
    Stopping,
    Synthetic,
    input_option,
    profile_option,
    range_option,
    read_plan,
    shape_option,
    steps_option,
    weights_option,
)
from loadgen.progress import JsonLines, LiveTable, Observer, PlainLines, Quiet

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

Model = Annotated[str, typer.Option("-m", "--model", help="Name of the model.")]
Version = Annotated[str, typer.Option("-x", "--model-version", help="Version of the model; the latest if not given.")]
Url = Annotated[str, typer.Option("-u", "--url", help="HOST:PORT of the server's gRPC service.")]
InputPaths = Annotated[
    list[str],
    typer.Option(
        "--input-data",
        help="perf_analyzer JSON, a folder of raw files, cells CSVs (files, folders, patterns), a prepared .corpus, "
        "synthetic, zero or random.",
    ),
]
EachInput = Annotated[
    list[str] | None,
    typer.Option("--input", metavar="NAME=zero|random", help="Values of one input, apart from the rest; repeatable."),
]
StringLength = Annotated[int, typer.Option("--string-length", min=0, help="Characters of a random string.")]
StringData = Annotated[str | None, typer.Option("--string-data", help="The string to send, for zero and random.")]
EncoderName = Annotated[
    str,
    typer.Option(
        "--encoder", metavar="NAME", help="What makes tensors of cells: odd, itk, tml, raw, or your MODULE:FUNCTION."
    ),
]
ModuleMap = Annotated[
    list[str] | None,
    typer.Option("--module-map", metavar="FILE", help="Map from id to module index, for raw; repeatable, in turn."),
]
EventRange = Annotated[
    str, typer.Option("--event-range", metavar="FIRST:LAST", help="Take only these events of the cells files.")
]
Poisson = Annotated[
    bool, typer.Option("--poisson", help="Vary the interactions of synthetic events as bunch crossings do.")
]
Weights = Annotated[
    str, typer.Option("--weights", metavar="W0,W1,...", help="How often each request is drawn; with --order random.")
]
SequenceLength = Annotated[
    int, typer.Option("--sequence-length", min=0, help="Steps of a sequence; as many as its stream has if 0.")
]
Cache = Annotated[bool, typer.Option(help="Keep encoded inputs for the next run, and use what is kept.")]
Shape = Annotated[
    list[str] | None,
    typer.Option("--shape", metavar="NAME:D1,D2", help="Dimensions for zero, random; repeatable."),
]
Overlay = Annotated[int, typer.Option("--overlay", min=1, help="Lay so many events of cells over each other.")]
MergeDuplicates = Annotated[bool, typer.Option("--merge-duplicates", help="Sum cells that a file names twice.")]
Batch = Annotated[int, typer.Option("-b", "--batch-size", min=1, help="Events a request, for models that batch.")]
OrderName = Annotated[
    Literal["shuffle", "sequential", "random"],
    typer.Option("--order", help="Order of the requests: shuffle (each once a pass), sequential or random."),
]
Mu = Annotated[float, typer.Option("--mu", min=0.001, help="Pile-up of synthetic events.")]
Events = Annotated[int, typer.Option("--events", min=1, help="How many synthetic events.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of synthetic events and of the order of requests.")]
LOADS, STOPPING, JUDGING = "Loads", "How long to measure", "What to make of it"
ConcurrencyRange = Annotated[
    str | None,
    typer.Option(
        "--concurrency-range",
        metavar="START[:END[:STEP]]",
        help="Closed loops: requests in flight, a point a level.",
        rich_help_panel=LOADS,
    ),
]
RateRange = Annotated[
    str | None,
    typer.Option(
        "--request-rate-range",
        metavar="START[:END[:STEP]]",
        help="Open loops: requests a second, a point a rate.",
        rich_help_panel=LOADS,
    ),
]
Distribution = Annotated[
    Literal["constant", "poisson", "gamma"],
    typer.Option("--request-distribution", help="Gaps between requests of an open loop.", rich_help_panel=LOADS),
]
Burstiness = Annotated[
    float,
    typer.Option(
        "--cv", min=0.01, help="Coefficient of variation of gamma gaps: bursts above 1.", rich_help_panel=LOADS
    ),
]
MaxInFlight = Annotated[
    int,
    typer.Option(
        "--max-in-flight",
        min=1,
        help="What an open loop would send beyond it is recorded as unsent.",
        rich_help_panel=LOADS,
    ),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        metavar="RATE:S,...",
        help="Rates in turn, over again; FROM-TO ramps: 10:30,10-50:60.",
        rich_help_panel=LOADS,
    ),
]
StepsOption = Annotated[
    str,
    typer.Option(
        "--concurrency-steps",
        metavar="N:S,...",
        help="Concurrencies in turn, over again: 2:10,8:10.",
        rich_help_panel=LOADS,
    ),
]
RequestIntervals = Annotated[
    str,
    typer.Option(
        "--request-intervals",
        metavar="FILE|RUN",
        help="Replay gaps in microseconds, or a run's arrivals.",
        rich_help_panel=LOADS,
    ),
]
Speed = Annotated[float, typer.Option("--speed", min=0.001, help="How fast to replay.", rich_help_panel=LOADS)]
SpinUs = Annotated[
    int,
    typer.Option(
        "--spin-us",
        min=0,
        help="Busy waiting before a due time; 0 spares a core and costs a millisecond.",
        rich_help_panel=LOADS,
    ),
]
WindowMs = Annotated[
    int | None,
    typer.Option(
        "-p",
        "--measurement-interval",
        min=1,
        metavar="MS",
        help="Measure each point for so long, not until it is precise.",
        rich_help_panel=STOPPING,
    ),
]
WarmupMs = Annotated[
    int, typer.Option("--warmup-ms", min=0, help="Load before the window, with -p.", rich_help_panel=STOPPING)
]
RequestCount = Annotated[
    int | None,
    typer.Option(
        "--request-count", min=1, help="Measure each point over so many requests.", rich_help_panel=STOPPING
    ),
]
Precision = Annotated[
    float, typer.Option(min=0.001, help="Relative 95 % interval asked of the throughput.", rich_help_panel=STOPPING)
]
MinTime = Annotated[
    float, typer.Option("--min-time", min=0.1, metavar="S", help="First look at a point.", rich_help_panel=STOPPING)
]
MaxTime = Annotated[
    float, typer.Option("--max-time", min=0.1, metavar="S", help="Last look at a point.", rich_help_panel=STOPPING)
]
Repeats = Annotated[int, typer.Option(min=1, help="Measure every point so often.", rich_help_panel=STOPPING)]
PointOrder = Annotated[
    Literal["sequential", "shuffle", "interleave"],
    typer.Option(
        "--point-order",
        help="Order of the points; interleave turns every second pass round.",
        rich_help_panel=STOPPING,
    ),
]
Percentile = Annotated[
    list[float] | None,
    typer.Option(
        "--percentile",
        min=0.001,
        max=99.999,
        help="A percentile besides 50, 90, 95, 99, 99.9; repeatable.",
        rich_help_panel=JUDGING,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit with 5 if a point is not steady.", rich_help_panel=JUDGING)
]
FailIf = Annotated[
    list[str] | None,
    typer.Option(
        "--fail-if",
        metavar="'p99 > 500ms'",
        help="Exit with 6 if a point crosses it; repeatable.",
        rich_help_panel=JUDGING,
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the points and how long they take; start nothing.")]
DeadlineMs = Annotated[int, typer.Option("--deadline-ms", min=1, help="How long to wait for one answer.")]
CollectMetrics = Annotated[bool, typer.Option(help="Poll the server's metrics page.")]
MetricsUrl = Annotated[
    str, typer.Option("--metrics-url", help="The page; http://<host of -u>:8002/metrics if not given.")
]
MetricsIntervalMs = Annotated[
    int, typer.Option("--metrics-interval", min=1, metavar="MS", help="Time between polls.")
]
ReadyTimeoutS = Annotated[float, typer.Option("--ready-timeout-s", min=0.1, help="How long to wait for the server.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder below which the run directory is made.")]
Name = Annotated[str, typer.Option("--name", help="Name of the run directory; the model's if not given.")]
Csv = Annotated[str, typer.Option("-f", help="Also write the CSV (perf_analyzer's format) to this file.")]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but warnings.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print each point as a JSON object on stdout.")]
Instances = Annotated[int, typer.Option("--instances", min=1, help="Instances of the stand-in model.")]
SignatureName = Annotated[str, typer.Option("--signature", help="Tensors of the stand-in model: odd or itk.")]
Stub = Annotated[bool, typer.Option("--stub", help="Serve the simulating stub even where Triton could run.")]


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
    maps = tuple(os.path.abspath(path) for path in module_map or [])  # noqa: PTH100 - links are left as they are
    match input_data:
        case ["synthetic"]:
            inputs: Any = Synthetic(mu, events, seed, poisson, encoder, maps)
        case ["zero" | "random" as kind]:
            shapes, each = dict(map(shape_option, shape or [])), dict(map(input_option, input_ or []))
            requests = 1 if {kind, *each.values()} == {"zero"} else events
            inputs = Generated(kind, requests, shapes, seed, each, string_length, string_data)
        case _:
            inputs = api.input_of(
                input_data,
                overlay=overlay,
                merge_duplicates=merge_duplicates,
                numbers=range_option(event_range) if event_range else None,
                encoder=encoder,
                module_maps=maps,
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
