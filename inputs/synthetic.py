"""Seeded random events of the OpenDataDetector: right sizes, ranges and clusters, but no tracks.

Good for transport, encoders, tests and the stand-in; never for physics throughput, because a tracking chain finds
next to nothing in them. The laws are measured on a ten-muon event and on published totals of ttbar events with
pile-up 200 (379,069 cells in 104,245 measurements); radii of endcap rings, and the tail of pixel clusters that brings
the mean up to those totals, are assumptions. `odd_modules.csv` is the detector.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt
import polars as pl

from inputs.event import Event

ROWS_PER_INTERACTION = 1980.0
ROWS_SPREAD = 0.06
"""Relative spread of an event's size at fixed pile-up."""

REPEATED_SHARE = 0.045
"""Share of rows that name a cell a second time (two steps of the simulation in one cell)."""

PIXEL_THRESHOLD_MM, PIXEL_MAXIMUM_MM = 0.0101, 0.161
PIXEL_THICKNESS_MM, PIXEL_PITCH_MM, SMEARING_MM = 0.125, 0.05, 0.0141
ONE_CELL_MEAN_MM = 0.1206

FIRST_BIT = {"volume": 56, "layer": 36, "sensitive": 8, "ring": 0}
"""Where each field begins in a 64-bit ACTS identifier; the ring is its `extra` field."""

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ClusterLaw:
    """How clusters of one kind of module look.

    `shares` are the probabilities of 1, 2, ... cells; what they leave is a geometric tail of mean `tail_mean_cells`.
    `along0`, `along1` are the chances that the next cell lies one further along each channel (both: diagonal).
    """

    share_of_clusters: float
    shares: tuple[float, ...]
    tail_mean_cells: float
    along0: float
    along1: float


LAWS = {
    "pixel": ClusterLaw(0.55, (0.146, 0.291, 0.173, 0.082, 0.091, 0.036, 0.018, 0.018, 0.01), 20.0, 0.2, 0.9),
    "short strip": ClusterLaw(0.24, (0.68, 0.26, 0.04, 0.005), 8.0, 0.95, 0.1),
    "long strip": ClusterLaw(0.21, (0.73, 0.21, 0.03, 0.01), 20.0, 1.0, 0.0),
}


@dataclass(frozen=True, slots=True)
class Modules:
    """All modules of one kind, an element each; `weight` is the chance that a cluster lies on it."""

    geometry_id: npt.NDArray[np.uint64]
    bins0: Integers
    bins1: Integers
    weight: Floats


def events(mu: float, count: int, seed: int, *, poisson: bool = False) -> Iterator[Event]:
    """Yield `count` events at pile-up `mu`, fixed or Poisson about it; the k-th depends on k and the options only."""
    for index in range(count):
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(index,))))
        interactions = float(generator.poisson(mu)) if poisson else mu
        yield Event(f"synthetic mu {interactions:g} #{index}", cells(interactions, generator))


def cells(mu: float, generator: np.random.Generator) -> pl.DataFrame:
    """Return the cells of one event of `mu` interactions, ordered by geometry id as traccc's files are."""
    rows = ROWS_PER_INTERACTION * mu * max(0.1, 1 + ROWS_SPREAD * generator.standard_normal())
    clusters = max(len(LAWS), round(rows * (1 - REPEATED_SHARE) / _mean_cells()))
    counts = generator.multinomial(clusters, [law.share_of_clusters for law in LAWS.values()])
    parts = [_clusters(kind, int(n), generator) for kind, n in zip(LAWS, counts, strict=True) if n]
    made = pl.concat(parts).unique(["geometry_id", "channel0", "channel1"], keep="first", maintain_order=True)
    repeats = generator.integers(0, made.height, round(made.height * REPEATED_SHARE / (1 - REPEATED_SHARE)))
    whole = pl.concat([made, made[repeats]]).sort("geometry_id", "measurement_id", maintain_order=True)
    # Measurements are numbered in the order of the file.
    numbers = whole.select(pl.struct("geometry_id", "measurement_id").rle_id().cast(pl.UInt64))
    return whole.with_columns(measurement_id=numbers.to_series())


def _mean_cells() -> float:
    return sum(law.share_of_clusters * _mean_size(law) for law in LAWS.values())


def _mean_size(law: ClusterLaw) -> float:
    listed = sum(size * share for size, share in enumerate(law.shares, start=1))
    return listed + (1 - sum(law.shares)) * law.tail_mean_cells


def _clusters(kind: str, count: int, generator: np.random.Generator) -> pl.DataFrame:
    law, modules = LAWS[kind], _modules()[kind]
    module = generator.choice(len(modules.weight), size=count, p=modules.weight)
    size = _sizes(law, count, generator)
    cluster = np.repeat(np.arange(count), size)
    offset0 = _walk(size, law.along0, generator) * generator.choice((-1, 1), size=count)[cluster]
    offset1 = _walk(size, law.along1, generator)
    # One channel must move at every step, or a cell would be named twice.
    stuck = (np.diff(offset0, prepend=0) == 0) & (np.diff(offset1, prepend=0) == 0) & ~_first(size)
    offset1 += _running(stuck, size)
    channel0 = _placed(offset0, size, modules.bins0[module], generator)
    channel1 = _placed(offset1, size, modules.bins1[module], generator)
    return pl.DataFrame(
        {
            "geometry_id": modules.geometry_id[module][cluster],
            "measurement_id": cluster.astype(np.uint64),
            "channel0": channel0.astype(np.uint32),
            "channel1": channel1.astype(np.uint32),
            "timestamp": np.zeros(len(cluster), np.float32),
            "value": _values(kind, size, generator).astype(np.float32),
        }
    )


def _sizes(law: ClusterLaw, count: int, generator: np.random.Generator) -> Integers:
    tail_from = len(law.shares) + 1
    drawn = generator.choice(tail_from, size=count, p=[*law.shares, 1 - sum(law.shares)]) + 1
    tail = tail_from - 1 + generator.geometric(1 / (law.tail_mean_cells - tail_from + 1), size=count)
    sizes: Integers = np.where(drawn == tail_from, np.minimum(tail, 275), drawn)
    return sizes


def _first(size: Integers) -> npt.NDArray[np.bool_]:
    first = np.zeros(size.sum(), bool)
    first[np.cumsum(size) - size] = True
    return first


def _running(steps: npt.NDArray[np.bool_], size: Integers) -> Integers:
    """Sum steps within each cluster, from 0 at its first cell."""
    total = np.cumsum(steps & ~_first(size))
    start = total[np.cumsum(size) - size]
    within: Integers = total - np.repeat(start, size)
    return within


def _walk(size: Integers, chance: float, generator: np.random.Generator) -> Integers:
    return _running(generator.random(size.sum()) < chance, size)


def _placed(offset: Integers, size: Integers, bins: Integers, generator: np.random.Generator) -> Integers:
    """Put each cluster somewhere on its module, whole; one larger than the module is cut at the edge."""
    begins = np.cumsum(size) - size
    low, high = np.minimum.reduceat(offset, begins), np.maximum.reduceat(offset, begins)
    room = np.maximum(bins - (high - low), 1)
    start = np.floor(generator.random(len(size)) * room).astype(np.int64) - low
    placed: Integers = np.minimum(offset + np.repeat(start, size), np.repeat(bins, size) - 1)
    return placed


def _values(kind: str, size: Integers, generator: np.random.Generator) -> Floats:
    if kind != "pixel":
        return np.ones(size.sum())
    path_mm = np.hypot(PIXEL_THICKNESS_MM, (size - 1) * PIXEL_PITCH_MM)
    share = generator.uniform(0.5, 1.5, size.sum())
    share /= np.repeat(np.add.reduceat(share, np.cumsum(size) - size), size)
    value = np.repeat(path_mm, size) * share
    value[np.repeat(size == 1, size)] = ONE_CELL_MEAN_MM + SMEARING_MM * generator.standard_normal((size == 1).sum())
    clipped: Floats = np.clip(value, PIXEL_THRESHOLD_MM, PIXEL_MAXIMUM_MM)
    return clipped


@cache
def _modules() -> dict[str, Modules]:
    table = pl.read_csv((resources.files("inputs") / "odd_modules.csv").read_bytes())
    groups = table.with_columns(
        sensitive=pl.int_ranges("first_sensitive", pl.col("last_sensitive") + 1),
        # Occupancy: constant per unit of solid angle seen across the beam, so per area falling with radius squared.
        weight=pl.col("bins0")
        * pl.col("pitch0_mm")
        * pl.col("bins1")
        * pl.col("pitch1_mm")
        / pl.col("radius_mm") ** 2,
    ).explode("sensitive")
    return {str(kind[0]): _modules_of(group) for kind, group in groups.group_by("kind")}


def _modules_of(group: pl.DataFrame) -> Modules:
    # Set bits of different fields never meet, so that the sum of the shifted fields is the identifier.
    identifier = pl.sum_horizontal(
        pl.col(name).cast(pl.UInt64) * pl.lit(1 << bit, pl.UInt64) for name, bit in FIRST_BIT.items()
    )
    weight = group["weight"].to_numpy()
    return Modules(
        group.select(identifier).to_series().to_numpy(),
        group["bins0"].cast(pl.Int64).to_numpy(),
        group["bins1"].cast(pl.Int64).to_numpy(),
        weight / weight.sum(),
    )
