"""`crosscheck`: does the real perf_analyzer find the same as we do, on the same server, in turns; or in two files."""

import asyncio
import json as json_text
import shutil
from pathlib import Path
from typing import Annotated

import typer

from loadgen import options as opt
from loadgen.asked import Made, inputs_of, tls_of
from loadgen.endpoint import Endpoint, header_option, opened
from loadgen.errors import PlanError
from loadgen.plan import Arrivals, Cells, Generated, InputData, PerfJson, Plan, Synthetic, TransportName

crosschecks = typer.Typer()
DIFFERENT, NOTHING = 6, 3
Quantities = Annotated[
    list[str] | None,
    typer.Option("--margin", metavar="NAME=3%", help="Difference that does not matter, as p50=3%; repeatable."),
]


@crosschecks.command()
def crosscheck(  # noqa: PLR0913, PLR0917 - each is one option
    model: Annotated[str, typer.Option("-m", "--model", help="Name of the model.")] = "",
    input_data: Annotated[
        list[str] | None, typer.Option("--input-data", help="As for sweep; cells become JSON for both.")
    ] = None,
    url: opt.Url = "localhost:8001",
    model_version: opt.Version = "",
    header: opt.Headers = None,
    tls: opt.UseTls = False,
    tls_ca: opt.TlsCa = "",
    tls_cert: opt.TlsCert = "",
    tls_key: opt.TlsKey = "",
    transport: opt.TransportOption = "auto",
    mu: opt.Mu = 200.0,
    events: opt.Events = 10,
    shape: opt.Shape = None,
    concurrency_range: opt.ConcurrencyRange = None,
    request_rate_range: opt.RateRange = None,
    request_distribution: opt.Distribution = "constant",
    measurement_interval: Annotated[
        int,
        typer.Option("-p", "--measurement-interval", min=100, metavar="MS", help="Their -p; our window: 3.6 of it."),
    ] = 5000,
    blocks: Annotated[int, typer.Option("--blocks", min=1, help="Each is four takes a level.")] = 5,
    seed: opt.Seed = 0,
    perf_analyzer: Annotated[str, typer.Option("--perf-analyzer", metavar="PATH", help="Their program.")] = "",
    perf_analyzer_libraries: Annotated[
        str, typer.Option(metavar="DIR", help="Where it finds libraries that this machine lacks.")
    ] = "",
    perf_analyzer_arg: Annotated[
        list[str] | None, typer.Option(metavar="ARG", help="A further argument for it, as --sync; repeatable.")
    ] = None,
    theirs: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Do not measure: their CSV, stdout or export; repeatable."),
    ] = None,
    ours: Annotated[
        list[Path] | None, typer.Option(metavar="RUN", help="Our runs beside --theirs; repeatable.")
    ] = None,
    margin: Quantities = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 6 if any quantity is different.")] = False,
    output: opt.Output = Path("runs"),
    name: opt.Name = "crosscheck",
    json: opt.JsonFlag = False,
) -> None:
    """Compare with the real perf_analyzer: both on the same server, in turns, or from files.

    Per level and quantity: the ratio with its interval, and equivalent, different, or cannot tell. Exits with 3 if no
    level has a take of both.

    For example:

    - `crosscheck -m traccc-gpu --input-data events.json --concurrency-range 1:4 --blocks 10`
    - `crosscheck --theirs out4gpu_take1.txt --theirs out4gpu_take2.txt --ours runs/A --ours runs/B`
    """
    from analysis import crosscheck as judging  # noqa: PLC0415 - tables load only when they are needed
    from loadgen import crosscheck as measuring  # noqa: PLC0415
    from loadgen import rundir  # noqa: PLC0415

    margins = dict(map(_margin, margin or []))
    if bool(theirs) != bool(ours):
        raise PlanError("crosscheck: files of one side only; give --theirs and --ours")
    folder = rundir.create(output, name).path
    (folder / "journal").rmdir()

    def say(line: str) -> None:
        if not json:
            typer.echo(line)

    if theirs and ours:
        takes = measuring.from_files(ours, theirs)
    else:
        secured = tls_of(tls, tls_ca, tls_cert, tls_key, "")
        endpoint = Endpoint(url, model, model_version, (), secured, dict(map(header_option, header or [])))
        made = Made(mu, events, seed, shapes=tuple(shape or ()))
        inputs, words = _inputs(input_data or [], made, endpoint, folder)
        plan = _plan(endpoint, inputs, transport, concurrency_range, request_rate_range, request_distribution)
        arguments = (*_secured(endpoint), *(perf_analyzer_arg or []))
        program = measuring.Program(_program(perf_analyzer), perf_analyzer_libraries, arguments)
        asked = measuring.Asked(plan, program, tuple(words), folder, blocks, measurement_interval, seed)
        takes = asyncio.run(measuring.measured(asked, say))
    found = judging.agreements(takes, margins)
    level_name = "rate" if request_rate_range else "concurrency"
    for path in judging.write(folder, takes, found, level_name):
        say(str(path))
    if json:
        typer.echo(json_text.dumps({"agreements": found.to_dicts(), "doubts": judging.doubts(takes)}))
    else:
        judging.show(found, judging.doubts(takes), level_name)
    if found.is_empty():
        raise typer.Exit(NOTHING)
    raise typer.Exit(DIFFERENT if strict and "different" in found["verdict"] else 0)


def _margin(text: str) -> tuple[str, float]:
    """Read `p50=3`: a quantity and percent."""
    from analysis.crosscheck import name_of  # noqa: PLC0415
    from analysis.equivalence import MARGINS  # noqa: PLC0415

    names = {name_of(quantity): quantity for quantity in MARGINS}
    name, _, percent = text.partition("=")
    try:
        value = float(percent.removesuffix("%"))
    except ValueError:
        value = 0.0
    if name not in names or not 0 < value < 100:  # noqa: PLR2004 - percent
        raise PlanError(f"--margin {text}: write QUANTITY=PERCENT, as p50=3; quantities are {', '.join(names)}")
    return names[name], value / 100


def _program(given: str) -> Path:
    found = shutil.which(given or "perf_analyzer")
    if found is None:
        raise PlanError(
            f"--perf-analyzer {given or 'perf_analyzer'}: is not found on PATH; name the program, "
            "as tritonclient's wheel 2.49 brings it"
        )
    return Path(found)


def _inputs(given: list[str], made: Made, endpoint: Endpoint, folder: Path) -> tuple[InputData, list[str]]:
    """Return our inputs and their arguments: the same file for both, written here if it is not theirs already."""
    if not endpoint.model or not given:
        raise PlanError("crosscheck: give -m and --input-data, or --theirs and --ours")
    inputs = inputs_of(given, made)
    shapes = [word for text in made.shapes for word in ("--shape", text)]
    match inputs:
        case Generated():
            return inputs, ["--input-data", given[0], *shapes]
        case PerfJson(paths):
            return inputs, [word for path in paths for word in ("--input-data", path)] + shapes
        case Cells() | Synthetic():
            path = folder / "inputs.json"
            _write_json(path, inputs, endpoint)
            return PerfJson((str(path.absolute()),)), ["--input-data", str(path)]
    raise PlanError("--input-data: perf_analyzer cannot read a prepared corpus; give JSON, cells or synthetic")


def _write_json(path: Path, inputs: InputData, endpoint: Endpoint) -> None:
    from inputs import perf_json, served  # noqa: PLC0415
    from inputs.source import open_source  # noqa: PLC0415

    source = open_source(inputs)
    metadata = served.model(endpoint.grpc, endpoint.model, endpoint.version)
    perf_json.write(path, source.events(metadata), source.provenance)


def _plan(  # noqa: PLR0913, PLR0917 - each is one option
    endpoint: Endpoint,
    inputs: InputData,
    transport: TransportName,
    levels: str | None,
    rates: str | None,
    arrivals: Arrivals,
) -> Plan:
    from loadgen import api  # noqa: PLC0415

    if levels and rates:
        raise PlanError("crosscheck: give --concurrency-range or --request-rate-range, not both")
    plan, _ = api.plan_of(
        model=endpoint.model,
        input_data=inputs,
        url=endpoint.grpc,
        version=endpoint.version,
        tls=endpoint.tls,
        headers=endpoint.headers,
        transport=transport,
        concurrency=levels,
        rate=rates,
        arrivals=arrivals,
        order="sequential",
        window_ms=1,
        metrics_url=None,
        name="take",
    )
    return plan


def _secured(endpoint: Endpoint) -> list[str]:
    """Return perf_analyzer's options for the same headers and TLS."""
    words = [word for name, value in opened(endpoint.headers).items() for word in ("-H", f"{name}:{value}")]
    tls = endpoint.tls
    if tls is None:
        return words
    files = {
        "--ssl-grpc-root-certifications-file": tls.ca_file,
        "--ssl-grpc-certificate-chain-file": tls.cert_file,
        "--ssl-grpc-private-key-file": tls.key_file,
    }
    return [*words, "--ssl-grpc-use-ssl", *(word for pair in files.items() if pair[1] for word in pair)]
