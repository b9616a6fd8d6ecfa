"""Every named chart from real data: measured here on the real Triton, of the field's files, or published.

`python benchmarks/gallery.py FOLDER [--draw-only]` measures into FOLDER (some eight minutes; nginx is needed for the
pods), then draws every chart into docs/gallery and writes its page. LOADGEN_FIELD_DATA names the folder of files of
the field; without it their charts are left as they are, and it says so.
"""

import argparse
import asyncio
import os
import subprocess
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import vl_convert

import analysis
from analysis import theme
from analysis.charts import NAMED
from loadgen import atomic, kept, sweep_async
from loadgen.plan import Synthetic
from loadgen.server.launch import serve_standin
from loadgen.tracks import decode

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "live"))
GALLERY = ROOT / "docs" / "gallery"
PUBLISHED = ROOT / "tests" / "fixtures"
FIELD = Path(os.environ.get("LOADGEN_FIELD_DATA", "/nowhere"))
PRELOADED = "data loaded at server start"
MODEL, DIRECT, GRPCIO = "traccc-gpu", "direct", "grpcio"
SCALE = 1.2
STUDY = "--instances 1,2,4 --concurrency-range 1:4 --takes 3 -p 2500 --warmup-ms 300 --events 6 --quiet"
WORDS = {
    "here": "measured on the embedded Triton with the stand-in model: real requests, no physics",
    "published": "figures printed in, or read off, earlier studies of a real `traccc-gpu`",
    "field": "a file that perf_analyzer wrote on a machine with four GPUs of 80 GB",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a chart's data come from: a kind of `WORDS`, and paths as `analysis.load` takes them."""

    kind: str
    paths: tuple[str, ...]


def sources(folder: Path) -> dict[str, Source]:
    """Return the source of every named chart."""
    scan, again = str(folder / "scan"), str(folder / "scan-grpcio")
    here, ladder = Source("here", (scan,)), Source("here", (str(folder / "ladder"),))
    both = Source("here", (f"{DIRECT}={scan}", f"{GRPCIO}={again}"))
    published = _published(folder, "A100 80GB, mu 100")
    datasets, on_gpu = _published(folder, PRELOADED, "data sent"), _published(folder, "data on the GPU")
    devices = _published(folder, "A10, 1 instance", "RTX 2080 Ti, 1 instance")
    standalone = str(PUBLISHED / "studies_standalone.csv")
    ratios = Source("published", (_published(folder, "service").paths[0], standalone))
    perf_csv = str(FIELD / "perf_csv" / "hrzhao76__acts-aas__perf_analyzer_1insts_1gpus_sync.csv")
    field = Source("field", (f"4 GPUs={perf_csv}",))
    answers = Source("here", (str(folder / "answers.parquet"),))
    own = {
        **dict.fromkeys(("gpu-memory", "instances-memory"), _published(folder, PRELOADED)),
        **dict.fromkeys(("throughput-utilisation", "instances-utilisation", "scaling-instances"), published),
        **dict.fromkeys(("throughput-by-gpus", "gpus-compared", "scaling-gpus"), on_gpu),
        **dict.fromkeys(("standalone", "pileup", "pileup-plain", "pileup-ratio"), ratios),
        **dict.fromkeys(("gpu-power", "gpu-panels", "energy", "concurrency-gpu-utilisation"), field),
        **dict.fromkeys(("concurrency-gpu-memory", "concurrency-gpu-power"), field),
        **dict.fromkeys(("devices-throughput", "devices-latency"), both),
        **dict.fromkeys(("answers-chi2", "answers-tracks"), answers),
        **dict.fromkeys(("scaling", "throughput-latency", "stage-areas", "single-pass"), ladder),
        **dict.fromkeys(("latency-distribution", "percentile-ladder", "latency-heatmap"), ladder),
        "data-sets": datasets,
        "devices": devices,
        "response-service": Source("here", (str(folder / "rates"),)),
        "pod-panels": Source("here", (str(folder / "pods"),)),
    }
    return {name: own.get(name, here) for name in NAMED}


def _published(folder: Path, *labels: str) -> Source:
    """Return the published figures of some labels on their own."""
    path = folder / f"published-{'-'.join(''.join(filter(str.isalnum, label)) for label in labels)}.csv"
    pl.read_csv(PUBLISHED / "studies_points.csv").filter(pl.col("label").is_in(labels)).write_csv(path)
    return Source("published", (str(path), str(PUBLISHED / "studies_gpus.csv")))


def measure(folder: Path) -> None:
    """Measure what the charts need."""
    loadgen = [sys.executable, "-m", "loadgen", "study"]
    for name, more in (("scan", "--mu 20,60"), ("scan-grpcio", f"--mu 60 --transport {GRPCIO}")):
        subprocess.run([*loadgen, str(folder / name), *STUDY.split(), *more.split()], check=True)
    asyncio.run(_runs(folder))
    asyncio.run(_pods(folder))


async def _runs(folder: Path) -> None:
    inputs = Synthetic(20.0, 10)
    async with serve_standin(directory=folder / "models", log=folder / "server.log", instances=2) as server:
        asked = {"model": MODEL, "url": server.grpc, "input_data": inputs, "metrics_url": server.metrics_url}
        rates = [50.0, 100.0, 150.0, 200.0]
        await sweep_async(**asked, rate=rates, arrivals="poisson", window_ms=10_000, output=folder / "rates")
        await sweep_async(**asked, concurrency="1:8", window_ms=6000, output=folder / "ladder")
        asked |= {"answers": "decode", "window_ms": 3000}
        rows = []
        for name, concurrency in (("alone", 1), ("eight at once", 8)):
            run = await sweep_async(**asked, concurrency=concurrency, output=folder / name.replace(" ", "-"))
            rows += [row | {"label": name} for row in _answers(run.path)]
    pl.DataFrame(rows).write_parquet(folder / "answers.parquet")


def _answers(run: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for path in sorted(run.rglob(f"*{kept.SUFFIX}")):
        found = decode(path.read_bytes())
        if found.tracks is not None:
            rows.append({"quantity": "tracks", "value": float(found.tracks)})
        fits = (chi2 / ndf for chi2, ndf in zip(found.chi2, found.ndf, strict=True) if ndf > 0)
        rows += [{"quantity": "chi2_ndf", "value": float(ratio)} for ratio in fits]
    return rows


async def _pods(folder: Path) -> None:
    from beside import nginx  # noqa: PLC0415 - of the tests, which are no package

    async with AsyncExitStack() as stack:
        servers = []
        for name in ("a", "b"):
            models = folder / f"models-{name}"
            models.mkdir()
            served = serve_standin(directory=models, log=folder / f"{name}.log", instances=1)
            servers.append(await stack.enter_async_context(served))
        weights = dict(zip((server.grpc for server in servers), (3, 1), strict=True))
        address = stack.enter_context(nginx(weights, folder / "nginx"))
        pages = tuple(server.metrics_url for server in servers)
        inputs = Synthetic(20.0, 6)
        asked = {"model": MODEL, "url": address, "input_data": inputs, "metrics_url": pages}
        await sweep_async(**asked, concurrency="1:4", window_ms=5000, output=folder / "pods")


def draw(folder: Path) -> None:
    """Draw every chart, and write the page; a chart that cannot be drawn ends it."""
    atomic.make_folder(GALLERY)
    rows = []
    for name, source in sources(folder).items():
        path = GALLERY / f"{name}.png"
        if source.kind == "field" and not FIELD.is_dir():
            sys.stderr.write(f"{name}: left as it is, LOADGEN_FIELD_DATA is not set\n")
        else:
            drawn = analysis.chart(name, *source.paths)
            atomic.write(path, vl_convert.vegalite_to_png(theme.specification(drawn), scale=SCALE))
        spec = NAMED[name]
        title = f"### {spec.number or 'new'} `{name}`"
        rows.append(f"{title}\n\n{spec.title}: {WORDS[source.kind]}.\n\n![{spec.title}]({path.name})\n")
    head = (
        "# Gallery\n\nEvery named chart, drawn by `python benchmarks/gallery.py FOLDER`. C1 to C24 replace charts of "
        "earlier studies; what each keeps to is in [charts.md](../charts.md).\n\n"
    )
    atomic.write(GALLERY / "README.md", (head + "\n".join(rows)).encode())


def main() -> None:
    """Measure, unless that was done, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draw-only", action="store_true")
    asked = parser.parse_args()
    if not asked.draw_only:
        atomic.make_folder(asked.folder)
        measure(asked.folder.resolve())
    draw(asked.folder.resolve())


if __name__ == "__main__":
    main()
