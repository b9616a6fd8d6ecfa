"""`python -m inputs`: make synthetic events, turn cells into perf_analyzer's JSON."""

import json
from pathlib import Path
from typing import Annotated

import typer

from inputs import overlay, perf_json, source, synthetic, traccc
from inputs.inspect import described
from inputs.signatures import SIGNATURES, Signature
from loadgen import atomic
from loadgen.entry import enter
from loadgen.errors import PlanError
from loadgen.plan import Cells

app = typer.Typer(
    help="Events for traccc-gpu: synthetic ones, and perf_analyzer's --input-data JSON from cells.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
SignatureName = Annotated[str, typer.Option("--signature", help="Tensors to write: odd or itk.")]


@app.command("synthetic")
def make_synthetic(
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.json, or a folder for cells CSVs.")],
    mu: Annotated[float, typer.Option("--mu", min=0.001, help="Pile-up.")] = 200.0,
    events: Annotated[int, typer.Option("--events", min=1, help="How many.")] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Same seed, same events.")] = 0,
) -> None:
    """Make seeded random ODD events: right sizes and clusters, no tracks, never physics."""
    provenance = source.synthetic_provenance(mu, events, seed)
    made = synthetic.events(mu, events, seed)
    if output.suffix == ".json":
        perf_json.write(output, map(SIGNATURES["odd"].encode, made), provenance)
    else:
        atomic.make_folder(output)
        for index, event in enumerate(made):
            traccc.write_cells(event, output / f"event{index:09}-cells.csv")
        atomic.write(output / source.PROVENANCE_FILE, json.dumps(provenance).encode() + b"\n")
    typer.echo(f"{output}: {source.synthetic_words(provenance)}")


@app.command()
def convert(
    paths: Annotated[list[Path], typer.Argument(help="Cells CSVs, or folders of event*-cells.csv.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="FILE.json to write.")],
    signature: SignatureName = "odd",
) -> None:
    """Turn cells into perf_analyzer's --input-data JSON."""
    encode = _signature(signature).encode
    provenance = source.open_source(Cells(tuple(map(str, paths)))).provenance
    count = perf_json.write(output, map(encode, traccc.read_events(paths)), provenance)
    typer.echo(f"{output}: {count} events")


@app.command("inspect")
def show(paths: Annotated[list[Path], typer.Argument(help="JSON files, cells CSVs, or folders of them.")]) -> None:
    """Say what is in files: events, tensors, shapes, cells, bytes."""
    for line in described(paths):
        typer.echo(line)


@app.command("overlay")
def lay_over(
    paths: Annotated[list[Path], typer.Argument(help="Cells CSVs, or folders of event*-cells.csv.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the cells CSVs.")],
    each: Annotated[int, typer.Option("--each", min=2, help="How many events become one.")] = 2,
) -> None:
    """Lay real events over each other, cells that fired in several summed: a higher pile-up without simulation."""
    atomic.make_folder(output)
    laid = overlay.overlaid(traccc.read_events(paths), each)
    count = 0
    for count, event in enumerate(laid, start=1):
        traccc.write_cells(event, output / f"event{count - 1:09}-cells.csv")
    typer.echo(f"{output}: {count} events, each of {each}")


def main() -> None:
    """Run the command line."""
    enter(app)


def _signature(name: str) -> Signature:
    if name not in SIGNATURES:
        raise PlanError(f"--signature {name}: is not known; write one of {', '.join(SIGNATURES)}")
    return SIGNATURES[name]


if __name__ == "__main__":
    main()
