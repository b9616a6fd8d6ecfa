"""The command line: options -> Plan -> run. Names are perf_analyzer's wherever it has one."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from loadgen import atomic
from loadgen import options as opt
from loadgen.asked import (
    Made,
    Shape,
    cells_of,
    companions_of,
    further_loads,
    inputs_of,
    prometheus_of,
    stopping_of,
    tls_of,
)
from loadgen.cli_crosscheck import crosschecks
from loadgen.cli_study import studies
from loadgen.cli_tools import tools
from loadgen.demo import own_server
from loadgen.endpoint import header_option
from loadgen.entry import enter
from loadgen.judged import INTERRUPTED, Judging, carry_out, kube_of, swept
from loadgen.plan import MAX_IN_FLIGHT, Search, Synthetic, read_plan
from loadgen.progress import observer
from loadgen.ranges import weights_option

EXIT_CODES = """Exit codes: 0 done; 1 a bug of ours; 2 a wrong option, plan or input; 3 the server is absent, not
ready or refuses; 4 the worker or the disk failed; 5 a point is not steady (--strict); 6 a point crosses a
--fail-if; 7 points of a study are missing; 130 stopped by Ctrl-C or SIGTERM (what was measured is sealed)."""

app = typer.Typer(
    help=f"Load generator for NVIDIA Triton.\n\n{EXIT_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command()
def sweep(  # noqa: PLR0913, PLR0917 - each is one option
    model: opt.Model,
    input_data: opt.InputPaths,
    url: opt.Url = "",
    protocol: opt.Protocol = "grpc",
    model_version: opt.Version = "",
    header: opt.Headers = None,
    tls: opt.UseTls = False,
    tls_ca: opt.TlsCa = "",
    tls_cert: opt.TlsCert = "",
    tls_key: opt.TlsKey = "",
    tls_server_name: opt.TlsServerName = "",
    transport: opt.TransportOption = "auto",
    connections: opt.Connections = 1,
    keepalive: opt.Keepalive = 0.0,
    compression: opt.Compression = "none",
    workers: opt.Workers = 1,
    mu: opt.Mu = 200.0,
    events: opt.Events = 10,
    seed: opt.Seed = 0,
    shape: opt.Shape = None,
    input_: opt.EachInput = None,
    string_length: opt.StringLength = 128,
    string_data: opt.StringData = None,
    overlay: opt.Overlay = 1,
    merge_duplicates: opt.MergeDuplicates = False,
    event_range: opt.EventRange = "",
    encoder: opt.EncoderName = "",
    module_map: opt.ModuleMap = None,
    poisson: opt.Poisson = False,
    cache: opt.Cache = True,
    batch: opt.Batch = 1,
    order: opt.OrderName = "shuffle",
    weights: opt.Weights = "",
    sequence_length: opt.SequenceLength = 0,
    also: opt.Also = None,
    model_weight: opt.ModelWeight = 1.0,
    composing_models: opt.ComposingModels = "",
    answers: opt.AnswersOption = "none",
    concurrency_range: opt.ConcurrencyRange = None,
    request_rate_range: opt.RateRange = None,
    request_distribution: opt.Distribution = "constant",
    cv: opt.Burstiness = 1.0,
    max_in_flight: opt.MaxInFlight = MAX_IN_FLIGHT,
    profile: opt.ProfileOption = "",
    concurrency_steps: opt.StepsOption = "",
    request_intervals: opt.RequestIntervals = "",
    speed: opt.Speed = 1.0,
    spin_us: opt.SpinUs = 1200,
    measurement_interval: opt.WindowMs = None,
    warmup_ms: opt.WarmupMs = 2000,
    request_count: opt.RequestCount = None,
    precision: opt.Precision = 0.02,
    min_time: opt.MinTime = 20.0,
    max_time: opt.MaxTime = 120.0,
    repeats: opt.Repeats = 1,
    point_order: opt.PointOrder = "sequential",
    percentile: opt.Percentile = None,
    slo: opt.Slo = "",
    strict: opt.Strict = False,
    fail_if: opt.FailIf = None,
    dry_run: opt.DryRun = False,
    deadline_ms: opt.DeadlineMs = 300_000,
    collect_metrics: opt.CollectMetrics = True,
    metrics_url: opt.MetricsUrl = None,
    metrics_header: opt.MetricsHeaders = None,
    metrics_interval: opt.MetricsIntervalMs = 1000,
    nvml: opt.Nvml = "auto",
    prometheus_url: opt.PrometheusUrl = "",
    prometheus_header: opt.PrometheusHeaders = None,
    prometheus_query: opt.PrometheusQuery = None,
    prometheus_selector: opt.PrometheusSelector = "",
    replicas: opt.Replicas = 0,
    kube: opt.KubeService = "",
    namespace: opt.Namespace = "default",
    kube_context: opt.KubeContext = "",
    ready_timeout_s: opt.ReadyTimeoutS = 10.0,
    output: opt.Output = Path("runs"),
    name: opt.Name = "",
    csv: opt.Csv = "",
    quiet: opt.QuietFlag = False,
    json: opt.JsonFlag = False,
) -> None:
    """Measure a served model at each load: concurrencies, rates, profiles, replays.

    For example:

    - `sweep -m traccc-gpu --input-data events.json --concurrency-range 1:8`
    - `sweep -m traccc-gpu -u triton.example.org:443 --tls -H 'authorization: Bearer $TOKEN' --input-data cells/`
    - `sweep -m traccc-gpu --input-data synthetic --mu 200 --request-rate-range 10:50:10 --slo 'p99 < 500ms'`
    - `sweep -m traccc-gpu --input-data events.json -p 30000 --repeats 5 --fail-if 'p99 > 500ms' --json`
    """
    from loadgen import api  # noqa: PLC0415 - tables and charts load only when they are needed

    made = Made(mu, events, seed, poisson, tuple(shape or ()), tuple(input_ or ()), string_length, string_data)
    cells = cells_of(
        overlay=overlay,
        event_range=event_range,
        merge_duplicates=merge_duplicates,
        encoder=encoder,
        module_maps=module_map,
    )
    plan, root = api.plan_of(
        model=model,
        input_data=inputs_of(input_data, made, **cells),
        url=url,
        protocol=protocol,
        version=model_version,
        tls=tls_of(tls, tls_ca, tls_cert, tls_key, tls_server_name),
        headers=dict(map(header_option, header or [])),
        transport=transport,
        connections=connections,
        keepalive_s=keepalive,
        compression=compression,
        workers=workers,
        concurrency=concurrency_range,
        rate=request_rate_range,
        arrivals=request_distribution,
        cv=cv,
        max_in_flight=max_in_flight,
        loads=further_loads(
            profile,
            concurrency_steps,
            request_intervals,
            speed,
            Shape(request_distribution, cv, max_in_flight),
        ),
        stopping=stopping_of(measurement_interval, warmup_ms, request_count, precision, min_time, max_time),
        repeats=repeats,
        point_order=point_order,
        percents=percentile or (),
        slo=slo,
        spin_us=spin_us,
        deadline_ms=deadline_ms,
        metrics_url=tuple(metrics_url or ()) if collect_metrics else None,
        metrics_headers=dict(map(header_option, metrics_header or [])),
        metrics_interval_ms=metrics_interval,
        nvml=nvml,
        prometheus=prometheus_of(prometheus_url, prometheus_header, prometheus_query, prometheus_selector),
        replicas=replicas,
        seed=seed,
        batch=batch,
        order=order,
        weights=weights_option(weights) if weights else (),
        sequence_length=sequence_length,
        companions=companions_of(also or [], made),
        model_weight=model_weight,
        composing_models=tuple(filter(None, composing_models.split(","))),
        answers=answers,
        ready_timeout_s=ready_timeout_s,
        name=name or None,
        output=output,
    )
    judging, service = Judging(strict, tuple(fail_if or ())), kube_of(kube, namespace, kube_context, url)
    carry_out(plan, root, judging, observer(quiet=quiet, json=json), csv, cache, dry_run, service)


@app.command()
def search(  # noqa: PLR0913, PLR0917 - each is one option
    model: opt.Model,
    input_data: opt.InputPaths,
    slo: opt.Objective,
    over: opt.Over = "rate",
    url: opt.Url = "",
    protocol: opt.Protocol = "grpc",
    model_version: opt.Version = "",
    header: opt.Headers = None,
    tls: opt.UseTls = False,
    tls_ca: opt.TlsCa = "",
    tls_cert: opt.TlsCert = "",
    tls_key: opt.TlsKey = "",
    tls_server_name: opt.TlsServerName = "",
    transport: opt.TransportOption = "auto",
    connections: opt.Connections = 1,
    keepalive: opt.Keepalive = 0.0,
    compression: opt.Compression = "none",
    workers: opt.Workers = 1,
    mu: opt.Mu = 200.0,
    events: opt.Events = 10,
    seed: opt.Seed = 0,
    shape: opt.Shape = None,
    overlay: opt.Overlay = 1,
    event_range: opt.EventRange = "",
    batch: opt.Batch = 1,
    request_distribution: opt.SearchDistribution = "poisson",
    cv: opt.Burstiness = 1.0,
    saturation: opt.Saturation = 16,
    max_concurrency: opt.MaxConcurrency = 64,
    probe_s: opt.ProbeS = 20.0,
    max_probe_s: opt.MaxProbeS = 600.0,
    strict: opt.Strict = False,
    dry_run: opt.DryRun = False,
    deadline_ms: opt.DeadlineMs = 300_000,
    collect_metrics: opt.CollectMetrics = True,
    metrics_url: opt.MetricsUrl = None,
    metrics_header: opt.MetricsHeaders = None,
    metrics_interval: opt.MetricsIntervalMs = 1000,
    nvml: opt.Nvml = "auto",
    prometheus_url: opt.PrometheusUrl = "",
    prometheus_header: opt.PrometheusHeaders = None,
    prometheus_query: opt.PrometheusQuery = None,
    prometheus_selector: opt.PrometheusSelector = "",
    replicas: opt.Replicas = 0,
    kube: opt.KubeService = "",
    namespace: opt.Namespace = "default",
    kube_context: opt.KubeContext = "",
    ready_timeout_s: opt.ReadyTimeoutS = 10.0,
    output: opt.Output = Path("runs"),
    name: opt.Name = "",
    quiet: opt.QuietFlag = False,
    json: opt.JsonFlag = False,
) -> None:
    """Find the highest rate, or concurrency, that keeps an objective; --strict exits with 5 if none is certified.

    For example:

    - `search -m traccc-gpu --input-data events/ --slo 'p99 < 500ms' --over rate`
    - `search -m traccc-gpu --input-data synthetic --slo 'service_p95 < 2s' --over concurrency`
    """
    from loadgen import api  # noqa: PLC0415

    cells = cells_of(overlay=overlay, event_range=event_range)
    plan, root = api.plan_of(
        model=model,
        input_data=inputs_of(input_data, Made(mu, events, seed, shapes=tuple(shape or ())), **cells),
        url=url,
        protocol=protocol,
        version=model_version,
        tls=tls_of(tls, tls_ca, tls_cert, tls_key, tls_server_name),
        headers=dict(map(header_option, header or [])),
        transport=transport,
        connections=connections,
        keepalive_s=keepalive,
        compression=compression,
        workers=workers,
        search=Search(slo, over, request_distribution, cv, saturation, max_concurrency, probe_s, max_probe_s),
        deadline_ms=deadline_ms,
        metrics_url=tuple(metrics_url or ()) if collect_metrics else None,
        metrics_headers=dict(map(header_option, metrics_header or [])),
        metrics_interval_ms=metrics_interval,
        nvml=nvml,
        prometheus=prometheus_of(prometheus_url, prometheus_header, prometheus_query, prometheus_selector),
        replicas=replicas,
        seed=seed,
        batch=batch,
        ready_timeout_s=ready_timeout_s,
        name=name or f"{model}-search",
        output=output,
    )
    service = kube_of(kube, namespace, kube_context, url)
    carry_out(plan, root, Judging(strict), observer(quiet=quiet, json=json), "", True, dry_run, service)  # noqa: FBT003


@app.command("run")
def run_plan(  # noqa: PLR0913, PLR0917 - each is one option
    plan_file: Annotated[
        Path, typer.Argument(metavar="PLAN", help="A TOML or JSON plan; every run has its plan.json.")
    ],
    strict: opt.Strict = False,
    fail_if: opt.FailIf = None,
    dry_run: opt.DryRun = False,
    cache: opt.Cache = True,
    output: opt.Output = Path("runs"),
    csv: opt.Csv = "",
    quiet: opt.QuietFlag = False,
    json: opt.JsonFlag = False,
) -> None:
    """Carry out a plan file.

    For example:

    - `run plan.toml --dry-run`
    - `run runs/20261124T152836Z-sweep/plan.json --strict`
    """
    judging = Judging(strict, tuple(fail_if or ()))
    carry_out(read_plan(plan_file), output, judging, observer(quiet=quiet, json=json), csv, cache, dry_run)


@app.command()
def demo(  # noqa: PLR0913, PLR0917 - each is one option
    instances: opt.Instances = 2,
    signature: opt.SignatureName = "odd",
    mu: opt.Mu = 20.0,
    events: opt.Events = 10,
    seed: opt.Seed = 0,
    concurrency_range: opt.ConcurrencyRange = "1:6:1",
    measurement_interval: opt.WindowMs = 5000,
    warmup_ms: opt.WarmupMs = 2000,
    output: opt.Output = Path("runs"),
    stub: opt.Stub = False,
    quiet: opt.QuietFlag = False,
    json: opt.JsonFlag = False,
) -> None:
    """Serve the stand-in model on a Triton of our own, sweep it with synthetic events, and report."""
    from loadgen import api  # noqa: PLC0415

    async def demonstrate() -> str:
        watcher = observer(quiet=quiet, json=json)
        atomic.make_folder(output)
        async with own_server(signature, instances, output / "demo-server.log", stub, watcher.announce) as server:
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
            return str((await swept(plan, root, watcher)).manifest["ended"])

    ended = asyncio.run(demonstrate())
    raise typer.Exit(INTERRUPTED if ended == "interrupted" else 0)


app.add_typer(tools)
app.add_typer(crosschecks)
app.add_typer(studies)


def main() -> None:
    """Run the command line."""
    try:
        enter(app)
    except (KeyboardInterrupt, asyncio.CancelledError):
        typer.echo("left at once; what was recorded is in the journal: `python -m loadgen seal RUN`", err=True)
        sys.exit(INTERRUPTED)
