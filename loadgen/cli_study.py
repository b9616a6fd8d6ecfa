"""`study`: a grid of servers, inputs and loads, measured in one go or in many."""

import asyncio
import os
import re
import shlex
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer

from loadgen import options as opt
from loadgen.asked import Made, cells_of, inputs_of, prometheus_of, stopping_of, tls_of
from loadgen.endpoint import header_option
from loadgen.errors import PlanError, TargetError
from loadgen.progress import observer
from loadgen.ranges import levels_option
from loadgen.study_plan import PILE_UPS, InputSet, Kube, Launched, Remote, Server, Study, checked

studies = typer.Typer()
UNFINISHED, FAILED, INTERRUPTED = 7, 3, 130
SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|min|h|d)?")
SECONDS = {None: 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
FIRST_INPUTS = "mu"


@dataclass(frozen=True, slots=True)
class Grid:
    """What options ask of the grid, before presets fill what they leave open."""

    instances: str
    gpus: tuple[str, ...]
    urls: tuple[str, ...]
    mus: str
    concurrency: str
    rates: str
    diagonal: bool


PRESETS: dict[str, dict[str, Any]] = {
    "single-gpu": {"instances": "1:8", "gpus": ("0",), "diagonal": True},
    "multi-gpu": {"instances": "1", "gpus": ("0", "0,1,2,3"), "concurrency": "1:8"},
    "pile-up": {"mus": ",".join(f"{mu:g}" for mu in PILE_UPS)},
    "remote": {"concurrency": "1:10"},
}
"""The studies that people did by hand, as values of the options that are not given."""


@studies.command()
def study(  # noqa: PLR0913, PLR0917 - each is one option
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="The study's folder; one that exists goes on.")],
    plan_file: Annotated[Path | None, typer.Argument(metavar="[PLAN]", help="A study in TOML or JSON.")] = None,
    preset: Annotated[
        list[str] | None,
        typer.Option("--preset", metavar="NAME", help="Fill in the rest: single-gpu, multi-gpu, pile-up, remote."),
    ] = None,
    model: Annotated[str, typer.Option("-m", "--model", help="Name of the model.")] = "traccc-gpu",
    model_version: opt.Version = "",
    input_data: Annotated[
        list[str] | None,
        typer.Option("--input-data", help="As for sweep; {mu} stands for each pile-up; synthetic if not given."),
    ] = None,
    mu: Annotated[str, typer.Option("--mu", metavar="MU,...", help="Pile-ups: a set of inputs each.")] = "",
    events: opt.Events = 10,
    poisson: opt.Poisson = False,
    encoder: opt.EncoderName = "",
    module_map: opt.ModuleMap = None,
    event_range: opt.EventRange = "",
    overlay: opt.Overlay = 1,
    merge_duplicates: opt.MergeDuplicates = False,
    batch: opt.Batch = 1,
    instances: Annotated[
        str, typer.Option("--instances", metavar="N,...|START:END", help="Instances of the model on each GPU.")
    ] = "",
    gpus: Annotated[
        list[str] | None, typer.Option("--gpus", metavar="ID,...", help="GPUs of a configuration; repeatable.")
    ] = None,
    model_repository: Annotated[
        str, typer.Option(metavar="DIR", help="Serve copies of it; the stand-in if not given.")
    ] = "",
    tritonserver: Annotated[
        str, typer.Option(metavar="PATH", help="The program; that of PATH or embedded if not given.")
    ] = "",
    tritonserver_arg: Annotated[
        list[str] | None, typer.Option(metavar="ARG", help="An argument for it; repeatable.")
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option("-u", "--url", metavar="[NAME=]HOST:PORT", help="Servers that run already; repeatable."),
    ] = None,
    metrics_url: opt.MetricsUrl = None,
    metrics_header: opt.MetricsHeaders = None,
    metrics_interval: opt.MetricsIntervalMs = 1000,
    nvml: opt.Nvml = "auto",
    prometheus_url: opt.PrometheusUrl = "",
    prometheus_header: opt.PrometheusHeaders = None,
    prometheus_query: opt.PrometheusQuery = None,
    prometheus_selector: opt.PrometheusSelector = "",
    replicas: opt.Replicas = 0,
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
    concurrency_range: Annotated[
        str, typer.Option("--concurrency-range", metavar="N,...|START:END[:STEP]", help="Closed loops.")
    ] = "",
    request_rate_range: Annotated[
        str, typer.Option("--request-rate-range", metavar="R,...|START:END[:STEP]", help="Open loops.")
    ] = "",
    request_distribution: opt.Distribution = "poisson",
    diagonal: Annotated[
        bool, typer.Option("--diagonal", help="As many requests in flight as the server has instances.")
    ] = False,
    takes: Annotated[int, typer.Option("--takes", min=1, help="Measure the whole grid so often.")] = 1,
    order: Annotated[
        Literal["blocks", "sequential"], typer.Option("--order", help="blocks: drawn anew in each take.")
    ] = "blocks",
    seed: opt.Seed = 0,
    measurement_interval: opt.WindowMs = None,
    warmup_ms: opt.WarmupMs = 2000,
    request_count: opt.RequestCount = None,
    precision: opt.Precision = 0.02,
    min_time: opt.MinTime = 20.0,
    max_time: opt.MaxTime = 120.0,
    percentile: opt.Percentile = None,
    slo: opt.Slo = "",
    answers: opt.AnswersOption = "none",
    deadline_ms: opt.DeadlineMs = 300_000,
    time_budget: Annotated[
        str, typer.Option("--time-budget", metavar="TIME", help="Begin no point after it: 90s, 45min, 8h.")
    ] = "",
    kube: opt.KubeService = "",
    namespace: opt.Namespace = "default",
    kube_context: opt.KubeContext = "",
    helm_uninstall_after: Annotated[
        bool, typer.Option("--helm-uninstall-after", help="Remove the release of --kube once the study is complete.")
    ] = False,
    layout: Annotated[
        Literal["own", "traccc"],
        typer.Option("--layout", help="traccc: also the folders and CSVs of traccc-aaS-performance."),
    ] = "own",
    standalone: Annotated[
        list[Path] | None,
        typer.Option("--standalone", help="Logs of traccc's own programs, beside it in the report; repeatable."),
    ] = None,
    dry_run: opt.DryRun = False,
    quiet: opt.QuietFlag = False,
    json: opt.JsonFlag = False,
) -> None:
    """Measure a grid: instances x GPUs x pile-up x concurrency, in takes of random order.

    What is done is not measured again: the same command, or `study OUT` alone, goes on where it ended, however that
    was. Exits with 7 while points are missing, 3 if a configuration failed.

    For example:

    - `study scan --instances 1,2,4 --mu 20,60 --concurrency-range 1:4 --takes 2`
    - `study a100 --preset single-gpu --model-repository models --input-data 'odd_mu{mu}.json' --mu 200`
    - `study nrp --preset remote -u triton.example.org:443 --tls --input-data events.json --time-budget 8h`
    """
    from loadgen import study as studying  # noqa: PLC0415 - tables load only when they are needed
    from loadgen import study_layout  # noqa: PLC0415

    budget_s = _seconds(time_budget) if time_budget else None
    grid = Grid(instances, tuple(gpus or ()), tuple(url or ()), mu, concurrency_range, request_rate_range, diagonal)
    headers, page_headers, query_headers = (
        dict(map(header_option, given or [])) for given in (header, metrics_header, prometheus_header)
    )
    if plan_file is not None:
        asked = read_study(plan_file)
    elif (folder / studying.STUDY_FILE).exists() and not (input_data or preset or kube or any(_given(grid))):
        asked = going_on(studying.kept(folder), takes, headers, page_headers, query_headers)
    else:
        launched = Launched(
            repository=_absolute(model_repository),
            tritonserver=tritonserver,
            arguments=tuple(tritonserver_arg or ()),
        )
        filled = with_presets(grid, preset or [])
        asked = checked(
            Study(
                model=model,
                servers=(
                    (Kube(kube, namespace, kube_context),)
                    if kube
                    else servers_of(filled, launched, tuple(metrics_url or ()))
                ),
                inputs=inputs_sets(
                    filled.mus,
                    input_data or ["synthetic"],
                    Made(events=events, seed=seed, poisson=poisson),
                    **cells_of(
                        overlay=overlay,
                        event_range=event_range,
                        merge_duplicates=merge_duplicates,
                        encoder=encoder,
                        module_maps=module_map,
                    ),
                ),
                concurrency=tuple(map(int, levels_option(filled.concurrency, "--concurrency-range", whole=True))),
                rates=levels_option(filled.rates, "--request-rate-range"),
                diagonal=filled.diagonal,
                takes=takes,
                stopping=stopping_of(measurement_interval, warmup_ms, request_count, precision, min_time, max_time),
                order=order,
                arrivals=request_distribution,
                seed=seed,
                version=model_version,
                headers=headers,
                metrics_headers=page_headers,
                tls=tls_of(tls, tls_ca, tls_cert, tls_key, tls_server_name),
                transport=transport,
                connections=connections,
                keepalive_s=keepalive,
                workers=workers,
                deadline_ms=deadline_ms,
                slo=slo,
                answers=answers,
                percents=tuple(percentile or ()),
                compression=compression,
                batch=batch,
                metrics_interval_ms=metrics_interval,
                nvml=nvml,
                prometheus=prometheus_of(prometheus_url, prometheus_header, prometheus_query, prometheus_selector),
                replicas=replicas,
            )
        )
    if dry_run:
        for line in studying.dry_run(asked, folder):
            typer.echo(line)
        return
    interrupt = asyncio.Event()
    watcher = observer(quiet=quiet, json=json)
    ended = asyncio.run(studying.carry_out(asked, folder, watcher, budget_s=budget_s, interrupt=interrupt))
    missing = studying.summary(asked, folder, lambda line: typer.echo(line, err=json))
    if layout == "traccc":
        for path in study_layout.write(folder):
            typer.echo(path, err=json)
    page = studying.write_report(folder, watcher, standalone or [])
    if page is not None:
        typer.echo(f"report: {page}", err=json)
    for release in ended.releases:
        _uninstall(release, done=not missing and not interrupt.is_set(), asked=helm_uninstall_after)
    if interrupt.is_set():
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(FAILED if ended.failures else UNFINISHED if missing else 0)


def going_on(
    kept: Study, takes: int, headers: dict[str, str], page_headers: dict[str, str], query_headers: dict[str, str]
) -> Study:
    """Return a folder's study with more takes if so many are asked for, and headers that were not written down."""
    prometheus = kept.prometheus
    if prometheus is not None:
        prometheus = msgspec.structs.replace(prometheus, headers=prometheus.headers | query_headers)
    return msgspec.structs.replace(
        kept,
        takes=max(takes, kept.takes),
        headers=kept.headers | headers,
        metrics_headers=kept.metrics_headers | page_headers,
        prometheus=prometheus,
    )


def _uninstall(release: Any, *, done: bool, asked: bool) -> None:  # noqa: ANN401 - kube.Release, loaded late
    """Remove a helm release if that was asked for and the study is complete; else say how."""
    if not (asked and done):
        typer.echo(f"still installed; to free its GPUs: {release.uninstall}", err=True)
        return
    try:
        ended = subprocess.run(shlex.split(release.uninstall), check=False).returncode  # noqa: S603 - the user's own helm
    except OSError as error:
        raise PlanError(f"helm is not found on PATH; to free its GPUs: {release.uninstall}") from error
    if ended:
        raise TargetError(f"{release.uninstall}: ended with {ended}; the release may still hold its GPUs")


def with_presets(grid: Grid, presets: list[str]) -> Grid:
    """Return the grid with every value that is not given taken from the presets.

    Raises:
        PlanError: there is no such preset.
    """
    unknown = next((preset for preset in presets if preset not in PRESETS), None)
    if unknown is not None:
        raise PlanError(f"--preset {unknown}: is not known; write one of {', '.join(PRESETS)}")
    values = {name: getattr(grid, name) for name in Grid.__slots__}
    has_load = bool(grid.concurrency or grid.rates or grid.diagonal)
    for preset in presets:
        for name, value in PRESETS[preset].items():
            if not values[name] and not (has_load and name in {"concurrency", "diagonal"}):
                values[name] = value
    if not (values["concurrency"] or values["rates"] or values["diagonal"]):
        values["concurrency"] = "1:4"
    return Grid(**values)


def servers_of(grid: Grid, launched: Launched, metrics_urls: tuple[str, ...]) -> tuple[Server, ...]:
    """Return the server configurations: those that run already, or one for each number of instances and GPU list.

    Raises:
        PlanError: both are asked for, or a text does not parse.
    """
    if grid.urls:
        if grid.gpus or launched.repository or launched.tritonserver:
            raise PlanError("study: -u is a server that runs already; leave out --gpus and --model-repository")
        counts = levels_option(grid.instances, "--instances", whole=True)
        said = int(counts[0]) if len(counts) == 1 else None
        return tuple(_remote(text, metrics_urls if len(grid.urls) == 1 else (), said) for text in grid.urls)
    counts = levels_option(grid.instances or "1", "--instances", whole=True)
    lists = [tuple(map(int, levels_option(text, "--gpus", whole=True, least=0))) for text in grid.gpus] or [()]
    return tuple(
        msgspec.structs.replace(launched, instances=int(count), gpus=gpus) for gpus in lists for count in counts
    )


def _remote(text: str, metrics_urls: tuple[str, ...], instances: int | None) -> Remote:
    name, _, address = text.rpartition("=")
    return Remote(address, name, metrics_urls, instances)


def inputs_sets(mus: str, given: list[str], made: Made, **cells: Any) -> tuple[InputSet, ...]:  # noqa: ANN401 - fields of Cells
    """Return a set of inputs a pile-up, `{mu}` in paths replaced; one set without a pile-up if none is given.

    Raises:
        PlanError: several pile-ups and paths that do not tell them apart.
    """
    levels = levels_option(mus, "--mu")
    if not levels and given == ["synthetic"]:
        levels = (200.0,)
    if not levels:
        return (InputSet(FIRST_INPUTS if "{mu}" in given[0] else "inputs", inputs_of(given, made, **cells)),)
    if len(levels) > 1 and given != ["synthetic"] and not any("{mu}" in text for text in given):
        raise PlanError("--input-data: is the same for every --mu; write {mu} where the pile-up stands in its path")
    return tuple(
        InputSet(
            f"mu{level:g}",
            inputs_of([text.replace("{mu}", f"{level:g}") for text in given], replace(made, mu=level), **cells),
            level,
        )
        for level in levels
    )


def read_study(path: Path) -> Study:
    """Read a study file, TOML or JSON by its name; relative paths of inputs and repositories are from its folder.

    Raises:
        PlanError: it cannot be read, or a field is wrong.
    """
    from loadgen.plan import anchored  # noqa: PLC0415
    from loadgen.study_plan import from_json  # noqa: PLC0415

    try:
        text = path.read_bytes()
        content = msgspec.toml.decode(text) if path.suffix == ".toml" else msgspec.json.decode(text)
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise PlanError(f"{path}: cannot read: {error}") from error
    found = from_json(msgspec.json.encode(content), str(path))
    inputs = tuple(msgspec.structs.replace(each, inputs=anchored(each.inputs, path.parent)) for each in found.inputs)
    servers = tuple(
        msgspec.structs.replace(each, repository=str(path.parent.absolute() / each.repository))
        if isinstance(each, Launched) and each.repository
        else each
        for each in found.servers
    )
    return checked(msgspec.structs.replace(found, inputs=inputs, servers=servers))


def _given(grid: Grid) -> list[object]:
    return [getattr(grid, name) for name in Grid.__slots__]


def _absolute(path: str) -> str:
    return os.path.abspath(path) if path else ""  # noqa: PTH100 - links are left as they are


def _seconds(text: str) -> float:
    found = SPAN.fullmatch(text.strip())
    if found is None:
        raise PlanError(f"--time-budget {text}: write a number and s, min or h, as 90s or 8h")
    return float(found[1]) * SECONDS[found[2]]
