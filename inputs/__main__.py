"""`python -m inputs`: look into files, turn cells into requests, make events, lay events over each other."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.progress import track
from rich.status import Status

from inputs import perf_json, raw_cells, served, source, synthetic, traccc
from inputs.encoders import BUILT_IN
from inputs.event import Event
from inputs.inspect import described
from inputs.signatures import SIGNATURES
from loadgen import atomic, prepare
from loadgen.endpoint import Endpoint
from loadgen.entry import enter
from loadgen.errors import PlanError
from loadgen.kserve import ModelMetadata
from loadgen.plan import Cells, PerfJson, Plan, Synthetic
from loadgen.ranges import range_option

Item = TypeVar("Item")

app = typer.Typer(
    help="Inputs for loadgen: what is in files, requests from cells, synthetic events, overlays.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
CellsPaths = Annotated[list[str], typer.Argument(help="Cells CSVs, patterns, or folders of event*-cells.csv.")]
EncoderName = Annotated[
    str, typer.Option("--encoder", help=f"What makes tensors of cells: {', '.join(BUILT_IN[1:])} or MODULE:FUNCTION.")
]
ModuleMap = Annotated[
    list[str] | None, typer.Option("--module-map", metavar="FILE", help="Map from id to module index, for raw.")
]
EventRange = Annotated[str, typer.Option("--event-range", metavar="FIRST:LAST", help="Take only these events.")]
Model = Annotated[str, typer.Option("-m", "--model", help="Name of the model.")]
Url = Annotated[str, typer.Option("-u", "--url", help="HOST:PORT of a server's gRPC service, to ask for the model.")]


@app.command("cells")
def from_cells(  # noqa: PLR0913, PLR0917 - each is one option
    paths: CellsPaths,
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.json, or NAME.corpus.")],
    encoder_name: EncoderName = "odd",
    module_map: ModuleMap = None,
    event_range: EventRange = "",
    overlay: Annotated[int, typer.Option("--overlay", min=1, help="Lay so many events over each other.")] = 1,
    merge_duplicates: Annotated[bool, typer.Option("--merge-duplicates", help="Sum repeated cells.")] = False,
    model: Model = "traccc-gpu",
    url: Url = "",
) -> None:
    """Turn cells into perf_analyzer's --input-data JSON, or into a corpus that a sweep sends as it is."""
    numbers = range_option(event_range) if event_range else None
    data = Cells(tuple(paths), overlay, merge_duplicates, numbers, encoder_name, tuple(module_map or ()))
    metadata = _metadata(encoder_name, model, url)
    opened = source.open_source(data)
    if output.suffix == ".corpus":
        plan = Plan(Endpoint(url, model), data, ())
        typer.echo(f"{output}: {_write_corpus(output, plan, opened, metadata)} requests of {model}")
        return
    if output.suffix != ".json":
        raise PlanError(f"-o {output}: write FILE.json or NAME.corpus")
    total = len(traccc.cells_files(paths, numbers)) // overlay
    count = perf_json.write(output, _shown(opened.events(metadata), "encoding", total), opened.provenance)
    typer.echo(f"{output}: {count} events")


@app.command("synth")
def make_synthetic(
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.json, or a folder for cells CSVs.")],
    mu: Annotated[float, typer.Option("--mu", min=0.001, help="Pile-up.")] = 200.0,
    events: Annotated[int, typer.Option("--events", min=1, help="How many.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same events.")] = 0,
    poisson: Annotated[bool, typer.Option("--poisson", help="Vary the interactions as bunch crossings do.")] = False,
) -> None:
    """Make seeded random ODD events: right sizes and clusters, no tracks, never physics."""
    provenance = source.synthetic_provenance(Synthetic(mu, events, seed, poisson))
    made = _shown(synthetic.events(mu, events, seed, poisson=poisson), "making", events)
    if output.suffix == ".json":
        perf_json.write(output, map(SIGNATURES["odd"].encode, made), provenance)
    else:
        _write_cells(made, output)
        _write_provenance(output, provenance)
    typer.echo(f"{output}: {source.synthetic_words(provenance)}")


@app.command()
def convert(
    paths: Annotated[list[Path], typer.Argument(help="perf_analyzer JSON files of a version of traccc-gpu.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.json, or a folder for cells CSVs.")],
    encoder_name: EncoderName = "odd",
) -> None:
    """Turn perf_analyzer's JSON back into cells CSVs, or write it again with `content` and `shape`."""
    if encoder_name not in SIGNATURES:
        raise PlanError(f"--encoder {encoder_name}: is not known here; write one of {', '.join(SIGNATURES)}")
    signature, metadata = SIGNATURES[encoder_name], _metadata(encoder_name, "traccc-gpu", "")
    opened = source.open_source(PerfJson(tuple(map(str, paths))))
    requests = _shown(opened.events(metadata), "converting", None)
    if output.suffix == ".json":
        typer.echo(f"{output}: {perf_json.write(output, requests, opened.provenance)} events")
        return
    count = _write_cells(map(signature.decode, requests), output)
    _write_provenance(output, opened.provenance)
    typer.echo(f"{output}: {count} events")


@app.command("inspect")
def show(
    paths: Annotated[list[Path], typer.Argument(help="JSON files, cells CSVs, or folders of them.")],
    model: Annotated[str, typer.Option("-m", "--model", help="Also encode all of it for this model of -u.")] = "",
    url: Url = "localhost:8001",
    encoder_name: Annotated[str, typer.Option("--encoder", help="As for `cells`, if not the model's own.")] = "",
    module_map: ModuleMap = None,
) -> None:
    """Say what is in files: events, tensors, shapes, cells, bytes; and whether a served model takes it."""
    metadata = served.model(url, model) if model else None
    for line in described(paths, metadata, encoder_name, tuple(module_map or ())):
        typer.echo(line)


@app.command("overlay")
def lay_over(
    paths: CellsPaths,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the cells CSVs.")],
    each: Annotated[int, typer.Option("--each", min=2, help="How many events become one.")] = 2,
    event_range: EventRange = "",
) -> None:
    """Lay real events over each other, cells that fired in several summed: a higher pile-up without simulation."""
    data = Cells(tuple(paths), each, numbers=range_option(event_range) if event_range else None)
    total = len(traccc.cells_files(paths, data.numbers)) // each
    provenance = {**source.open_source(data).provenance, "overlay": each}
    count = _write_cells(_shown(source.raw_events(data), "laying over", total), output)
    _write_provenance(output, provenance)
    typer.echo(f"{output}: {count} events, each of {each}")


def main() -> None:
    """Run the command line."""
    enter(app)


def _metadata(encoder_name: str, model: str, url: str) -> ModelMetadata:
    """Return the model's declaration: the server's if there is one, else the inputs that the encoder makes."""
    if url:
        return served.model(url, model)
    known = {name: signature.inputs for name, signature in SIGNATURES.items()} | {raw_cells.NAME: raw_cells.INPUTS}
    if encoder_name not in known:
        raise PlanError(f"--encoder {encoder_name}: needs the model's declaration; name its server with -u and -m")
    return ModelMetadata(model, ("1",), "", known[encoder_name], ())


def _write_corpus(folder: Path, plan: Plan, opened: source.Source, metadata: ModelMetadata) -> int:
    atomic.make_folder(folder)
    with Console(stderr=True).status("encoding") as status:
        shown = _Status(status)
        index = prepare.encode(plan, opened, metadata, folder / prepare.BYTES_FILE, shown)
    atomic.write(folder / prepare.INDEX_FILE, prepare.index_json(index))
    return len(index.bodies)


def _write_provenance(folder: Path, provenance: dict[str, Any]) -> None:
    """Leave beside the cells where they come from, so that what was made stays labelled so."""
    atomic.write(folder / source.PROVENANCE_FILE, json.dumps(provenance).encode() + b"\n")


def _write_cells(events: Iterable[Event], folder: Path) -> int:
    atomic.make_folder(folder)
    count = 0
    for count, event in enumerate(events, start=1):
        traccc.write_cells(event, folder / f"event{count - 1:09}-cells.csv")
    return count


def _shown(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    """Yield the items with a progress bar on a terminal's stderr."""
    bar = Console(stderr=True)
    yield from track(items, what, total, console=bar, transient=True, disable=not sys.stderr.isatty())


@dataclass(frozen=True, slots=True)
class _Status:
    status: Status

    def preparing(self, requests: int, size_bytes: int) -> None:
        """Show how far it is."""
        self.status.update(f"encoding: {requests} requests, {size_bytes / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
