"""The same sweep by direct and by grpcio on the stand-in at event size: do they find the same, and how sure is that.

`python benchmarks/transports_agree.py [--blocks 10] [--seconds 4] [--mu 20] [--stretch 1 8]` measures, on one real
Triton with one instance (so that server and client have a core each), whose answers take as long as their work or so
many times as long, concurrency 1 and 2 by each transport in blocks of ABBA or BAAB drawn at random, prints a table of
ratios for each and writes them into docs/agreement.md. A block gives one ratio: the geometric
mean of its two direct takes over that of its two grpcio takes, so that drift within a block cancels. Equal within a
margin: the 90 % interval of the mean ratio (Student's t on logarithms of the blocks) lies inside it, which is the two
one-sided tests of equivalence at 5 %.
"""

import argparse
import asyncio
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tally import conditions, say, table

from loadgen import Synthetic, sweep_async
from loadgen.server.launch import RunningServer, serve_standin

SIDES = ("direct", "grpcio")
CONCURRENCIES = (1, 2)
MARGINS = {"throughput_per_s": 0.03, "service_mean_ns": 0.05, "service_p50_ns": 0.05, "service_p99_ns": 0.10}
STUDENT_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812, 1.796, 1.782, 1.771, 1.761, 1.753)
"""One-sided 95 % quantiles of Student's t for 1 to 15 degrees of freedom."""
DOCUMENT = Path(__file__).parents[1] / "docs" / "agreement.md"

Take = dict[str, Any]


async def taken(server: RunningServer, transport: str, concurrency: int, options: argparse.Namespace) -> Take:
    """Measure once; return the row of the point."""
    with tempfile.TemporaryDirectory() as folder:
        run = await sweep_async(
            model=server.model,
            url=server.grpc,
            input_data=Synthetic(mu=options.mu, events=10),
            metrics_url=None,
            transport=transport,
            concurrency=concurrency,
            warmup_ms=1000,
            window_ms=round(options.seconds * 1000),
            output=Path(folder),
        )
        return run.points().row(0, named=True)


async def measured(options: argparse.Namespace, stretch: float) -> dict[int, list[dict[str, list[Take]]]]:
    """Return, by concurrency, the takes of each block by transport."""
    blocks: dict[int, list[dict[str, list[Take]]]] = {level: [] for level in CONCURRENCIES}
    drawn = random.Random(options.seed)  # noqa: S311 - an order of measuring, not a secret
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "triton.log"
        async with serve_standin(directory=Path(folder), log=log, instances=1, stretch=stretch) as server:
            for number in range(options.blocks):
                for level in CONCURRENCIES:
                    first, second = drawn.sample(SIDES, 2)
                    block: dict[str, list[Take]] = {side: [] for side in SIDES}
                    for side in (first, second, second, first):
                        block[side].append(await taken(server, side, level, options))
                    blocks[level].append(block)
                    say(f"block {number + 1} of {options.blocks}, concurrency {level}: {shown(block)}")
    return blocks


def shown(block: dict[str, list[Take]]) -> str:
    """Return a block's throughputs in words."""
    return ", ".join(f"{side} {[round(take['throughput_per_s'], 1) for take in block[side]]}" for side in SIDES)


def log_ratios(blocks: list[dict[str, list[Take]]], quantity: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the logarithm of direct over grpcio of each block."""
    means = [[np.mean([np.log(take[quantity]) for take in block[side]]) for side in SIDES] for block in blocks]
    return np.array([direct - grpcio for direct, grpcio in means])


def judged(blocks: list[dict[str, list[Take]]], quantity: str) -> tuple[str, ...]:
    """Return the cells of a quantity: values, ratio with its 90 % interval, verdict."""
    logs, margin = log_ratios(blocks, quantity), MARGINS[quantity]
    half = STUDENT_95[min(len(logs) - 1, len(STUDENT_95)) - 1] * logs.std(ddof=1) / np.sqrt(len(logs))
    low, high = np.exp(logs.mean() - half), np.exp(logs.mean() + half)
    values = [np.median([take[quantity] for block in blocks for take in block[side]]) for side in SIDES]
    scale = 1 if quantity.endswith("per_s") else 1e6
    if -np.log1p(margin) < np.log(low) and np.log(high) < np.log1p(margin):
        verdict = f"equal within {margin:.0%}"
    elif low > 1 or high < 1:
        verdict = "different"
    else:
        verdict = f"not shown to be equal within {margin:.0%}"
    ratio = f"{np.exp(logs.mean()):.4f} ({low:.4f} to {high:.4f})"
    return (*(f"{value / scale:.2f}" for value in values), ratio, verdict)


def lines(found: dict[float, dict[int, list[dict[str, list[Take]]]]], options: argparse.Namespace) -> Iterator[str]:
    """Return the document: a table for each stretch."""
    yield "# Do the two transports find the same?"
    yield ""
    yield (
        "`python benchmarks/transports_agree.py`: the stand-in on a real Triton (SIMULATED: no physics figure), one "
        f"instance, synthetic events at mu {options.mu:g}, {options.seconds:g} s a take, {options.blocks} blocks of "
        "four takes a concurrency in random ABBA or BAAB order. Ratio: direct over grpcio, with its 90 % interval."
    )
    yield ""
    yield from conditions(options.blocks, options.seconds)
    for stretch, blocks in found.items():
        yield ""
        yield f"## Answers take {f'{stretch:g} times as long as' if stretch != 1 else 'as long as'} their work"
        yield ""
        yield from comparison(blocks)


def comparison(blocks: dict[int, list[dict[str, list[Take]]]]) -> Iterator[str]:
    """Return one table."""
    head = ("concurrency", "quantity", "direct", "grpcio", "ratio", "verdict")
    rows = [(str(level), name, *judged(blocks[level], name)) for level in CONCURRENCIES for name in MARGINS]
    yield from table(head, rows)
    yield "Times in ms; medians of all takes."


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--mu", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stretch", type=float, nargs="+", default=[1.0, 8.0])
    options = parser.parse_args()
    found = {stretch: asyncio.run(measured(options, stretch)) for stretch in options.stretch}
    text = "\n".join(lines(found, options)) + "\n"
    print(text)
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
