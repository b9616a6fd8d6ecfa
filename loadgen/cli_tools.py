"""Commands beside the load: a server to try, a crashed run to rescue, this machine's own client to measure."""

import asyncio
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from loadgen import options as opt
from loadgen import perf_analyzer_cli
from loadgen.asked import prometheus_of, tls_of
from loadgen.demo import own_server
from loadgen.endpoint import Endpoint, check, header_option

tools = typer.Typer()
FAULTY = 3
Seconds = Annotated[float, typer.Option("--seconds", min=0.5, max=60.0, help="How long each step lasts.")]
RequestBytes = Annotated[
    list[int] | None,
    typer.Option("--request-bytes", min=1, max=2**31, help="Size of the requests; repeatable. 1000 if not given."),
]


@tools.command()
def calibrate(  # noqa: PLR0913, PLR0917 - each is one option
    request_bytes: RequestBytes = None,
    run: Annotated[Path | None, typer.Option("--run", help="A run directory: sizes as its requests had.")] = None,
    transport: opt.TransportOption = "auto",
    connections: opt.Connections = 1,
    workers: opt.Workers = 1,
    seconds: Seconds = 2.0,
    json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON on stdout.")] = False,
) -> None:
    """Measure what this machine's client can do at best; later sweeps are held against it.

    Against a server of our own that answers at once: the shortest service time, the most requests a second, the
    processor time of a request. A sweep near that ceiling is marked client_limited.

    For example:

    - `calibrate --request-bytes 1000 --request-bytes 2000000`
    - `calibrate --run runs/20261124T152836Z-sweep`
    """
    from loadgen import calibrate as measuring  # noqa: PLC0415 - what loads tables loads only when it is needed
    from loadgen import calibration, environment  # noqa: PLC0415

    client = calibration.Client(
        environment.host(), "direct" if transport == "auto" else transport, connections, workers
    )
    sizes = [*(request_bytes or []), *([measuring.mean_request_bytes(run)] if run else [])] or [1000]

    async def measure(size_bytes: int) -> calibration.Calibration:
        with tempfile.TemporaryDirectory() as folder:
            payload = measuring.made_payload(Path(folder), size_bytes)
            return await measuring.calibrate(client, payload, seconds, (lambda _: None) if json else typer.echo)

    for size_bytes in sizes:
        if not json:
            typer.echo(f"requests of {size_bytes:,} bytes, {client.transport}, {workers} worker(s):")
        found = asyncio.run(measure(size_bytes))
        calibration.keep(calibration.default_path(), found)
        if json:
            typer.echo(msgspec.json.encode(found))
    if not json:
        typer.echo(f"kept in {calibration.default_path()}")


@tools.command("perf-analyzer", context_settings={"ignore_unknown_options": True, "help_option_names": []})
def perf_analyzer(
    arguments: Annotated[list[str] | None, typer.Argument(help="perf_analyzer's own options.")] = None,
) -> None:
    """Take perf_analyzer's command line, print what it prints and write what it writes.

    For example:

    - `perf-analyzer -m traccc-gpu -i grpc --input-data events.json --concurrency-range 1:4 -f out.csv`
    """
    perf_analyzer_cli.main(arguments or [])


@tools.command()
def doctor(  # noqa: PLR0913, PLR0917 - each is one option
    url: opt.Url = "localhost:8001",
    model: Annotated[str, typer.Option("-m", "--model", help="A model to look at, too.")] = "",
    model_version: opt.Version = "",
    header: opt.Headers = None,
    tls: opt.UseTls = False,
    tls_ca: opt.TlsCa = "",
    tls_cert: opt.TlsCert = "",
    tls_key: opt.TlsKey = "",
    tls_server_name: opt.TlsServerName = "",
    metrics_url: opt.MetricsUrl = None,
    metrics_header: opt.MetricsHeaders = None,
    collect_metrics: opt.CollectMetrics = True,
    page: Annotated[
        list[Path] | None,
        typer.Option("--page", metavar="FILE", help="Look at a metrics page in a file instead; repeatable."),
    ] = None,
    prometheus_url: opt.PrometheusUrl = "",
    prometheus_header: opt.PrometheusHeaders = None,
    prometheus_query: opt.PrometheusQuery = None,
    prometheus_selector: opt.PrometheusSelector = "",
    json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON on stdout.")] = False,
) -> None:
    """Look at a server without sending load: what can be reached, its state, and what to do about each fault.

    Exits with 3 if there is a fault.

    For example:

    - `doctor -u localhost:8001 -m traccc-gpu`
    - `doctor -u triton.example.org:443 --tls -m traccc-gpu --metrics-url https://triton.example.org/metrics`
    - `doctor --page metrics.txt --page later.txt`
    """
    from loadgen import api, recorded  # noqa: PLC0415
    from loadgen.doctor import examined  # noqa: PLC0415

    if page:
        kept = [recorded.contents(path) for path in page]
        for line in [msgspec.json.encode(each).decode() for each in kept] if json else recorded.table(kept):
            typer.echo(line)
        return

    pages = tuple(metrics_url or (api.default_metrics_url(url),)) if collect_metrics else ()
    target = Endpoint(
        url,
        model,
        model_version,
        pages,
        tls_of(tls, tls_ca, tls_cert, tls_key, tls_server_name),
        dict(map(header_option, header or [])),
        dict(map(header_option, metrics_header or [])),
        prometheus_of(prometheus_url, prometheus_header, prometheus_query, prometheus_selector),
    )
    check(target)
    found = asyncio.run(examined(target))
    for each in found:
        typer.echo(msgspec.json.encode(each) if json else str(each))
    raise typer.Exit(FAULTY if any(each.state == "fault" for each in found) else 0)


@tools.command()
def watch(  # noqa: PLR0913, PLR0917 - each is one option
    url: Annotated[
        list[str] | None,
        typer.Option("-u", "--url", help="HOST:PORT of a gRPC service, or unix:PATH; repeatable; localhost:8001."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("-m", "--model", help="Only this model; repeatable; all if not given.")
    ] = None,
    header: opt.Headers = None,
    tls: opt.UseTls = False,
    tls_ca: opt.TlsCa = "",
    tls_cert: opt.TlsCert = "",
    tls_key: opt.TlsKey = "",
    tls_server_name: opt.TlsServerName = "",
    metrics_url: Annotated[
        list[str] | None,
        typer.Option("--metrics-url", help="A page for each -u in turn, or several, one a replica, for the only -u."),
    ] = None,
    metrics_header: opt.MetricsHeaders = None,
    collect_metrics: opt.CollectMetrics = True,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Time between looks: 1s, 500ms; 200ms at least.")
    ] = "1s",
    for_: Annotated[
        float | None, typer.Option("--for", min=0.0, metavar="SECONDS", help="End after so long; else by Ctrl-C.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Look for one interval, print the page, and end.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object an interval.")] = False,
) -> None:
    """Show live what servers do, without sending load: rates, stages, queue, instances, GPUs.

    A page in a terminal, elsewhere a plain line an interval and model. A server that goes away stays on the page,
    with its reason and since when.

    For example:

    - `watch -u localhost:8001`
    - `watch -u node1:8001 -u node2:8001 -m traccc-gpu --interval 2s`
    - `watch -u triton.example.org:443 --tls --metrics-url http://pod1:8002/metrics --metrics-url http://pod2:8002/metrics`
    - `watch --json --for 60 > watch.jsonl`
    """
    from loadgen.watch import faces, targets  # noqa: PLC0415

    asked = targets.Asked(
        tuple(url or ["localhost:8001"]),
        tuple(metrics_url or ()) if collect_metrics else None,
        tls_of(tls, tls_ca, tls_cert, tls_key, tls_server_name),
        dict(map(header_option, header or [])),
        dict(map(header_option, metrics_header or [])),
    )
    pace = targets.pace(targets.interval_ns(interval), for_, once=once)
    faces.run(targets.endpoints_of(asked), model or [], pace, json=json)


@tools.command()
def serve(
    instances: opt.Instances = 2,
    signature: opt.SignatureName = "odd",
    stretch: opt.Stretch = 1.0,
    stub: opt.Stub = False,
) -> None:
    """Serve the stand-in model on free ports until Ctrl-C."""

    async def stand() -> None:
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "server.log"
            async with own_server(signature, instances, log, stub, typer.echo, stretch) as server:
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


@tools.command()
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
