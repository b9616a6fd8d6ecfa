"""The command line: options -> Plan -> run. Names are perf_analyzer's wherever it has one."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console

from loadgen import atomic
from loadgen.entry import enter
from loadgen.errors import PlanError
from loadgen.plan import Generated, Plan, Synthetic, input_option, range_option, shape_option, weights_option
from loadgen.progress import JsonLines, LiveTable, Observer, PlainLines, Quiet

INTERRUPTED = 130
EXIT_CODES = """Exit codes: 0 done; 1 a bug of ours; 2 a wrong option, plan or input; 3 the server is absent, not
ready or refuses; 4 the worker or the disk failed; 130 stopped by Ctrl-C or SIGTERM (what was measured is sealed)."""

app = typer.Typer(
    help=f"Load generator for NVIDIA Triton.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    add_completion=False,
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
ConcurrencyRange = Annotated[
    str,
    typer.Option("--concurrency-range", metavar="START[:END[:STEP]]", help="Requests in flight, a point a level."),
]
WindowMs = Annotated[
    int, typer.Option("-p", "--measurement-interval", min=1, metavar="MS", help="Length of a point's window.")
]
WarmupMs = Annotated[int, typer.Option("--warmup-ms", min=0, help="Load before a point's window opens.")]
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
    concurrency_range: ConcurrencyRange = "1",
    measurement_interval: WindowMs = 5000,
    warmup_ms: WarmupMs = 2000,
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
        warmup_ms=warmup_ms,
        window_ms=measurement_interval,
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
    ended = asyncio.run(_sweep(plan, root, observer(quiet=quiet, json=json), csv, cached=cache))
    raise typer.Exit(INTERRUPTED if ended == "interrupted" else 0)


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
            return await _sweep(plan, root, watcher)

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


async def _sweep(plan: Plan, root: Path, watcher: Observer, csv: str = "", *, cached: bool = True) -> str:
    from analysis import perf_analyzer  # noqa: PLC0415
    from loadgen import api  # noqa: PLC0415

    sealed = await api.carry_out(plan, root, watcher, cached=cached)
    if csv:
        perf_analyzer.write_csv(sealed, Path(csv))
    watcher.announce(f"report: {sealed.path / 'report.html'}")
    return str(sealed.manifest["ended"])


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
