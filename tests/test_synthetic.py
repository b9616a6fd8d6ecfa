"""Synthetic events keep to the published sizes and laws, and to their seed."""

import hashlib

import numpy as np
import polars as pl
import pytest

from inputs import synthetic
from inputs.event import CELLS_SCHEMA

PIXEL, SHORT, LONG = (16, 17, 18), (23, 24, 25), (28, 29, 30)


@pytest.fixture(scope="module")
def mu200() -> pl.DataFrame:
    """Return one event at pile-up 200, with each cell's volume."""
    (event,) = synthetic.events(200, 1, seed=1)
    return event.cells.with_columns(volume=pl.col("geometry_id") // 2**56)


def digest(mu: float, count: int, seed: int) -> list[str]:
    """Return a digest of each event's cells."""
    events = synthetic.events(mu, count, seed)
    return [hashlib.sha256(event.cells.write_csv().encode()).hexdigest() for event in events]


def test_same_seed_same_events() -> None:
    """Events depend on mu, seed and their number alone: a longer list begins with the shorter one."""
    assert digest(5, 2, 3) == digest(5, 3, 3)[:2]
    assert digest(5, 1, 3) != digest(5, 1, 4)
    assert len(set(digest(5, 3, 3))) == 3


def test_same_bytes_on_any_machine() -> None:
    """The bytes of a seed are fixed for good: they are these, with any numpy from 1.26 on."""
    bytes_of = hashlib.sha256()
    for event in synthetic.events(20, 2, seed=0):
        for column in event.cells.get_columns():
            bytes_of.update(column.to_numpy().tobytes())
    assert bytes_of.hexdigest() == "bed7e7568b4c50e6d94cd3f1c42052ff43f3bd1afe86eb86cf4132c8337b7bf7"


def test_poisson_pile_up_varies_as_bunch_crossings_do() -> None:
    """The number of interactions has mean and variance mu, and the size of the event follows it."""
    events = list(synthetic.events(25, 60, seed=0, poisson=True))
    interactions = np.array([float(event.label.split()[2]) for event in events])
    rows = np.array([event.cells.height for event in events])
    assert interactions.mean() == pytest.approx(25, abs=2)
    assert interactions.var() == pytest.approx(25, rel=0.5)
    assert rows / interactions / 1980 == pytest.approx(np.ones(60), abs=0.25)


@pytest.mark.parametrize("mu", [20, 100])
def test_size_grows_with_pile_up(mu: float) -> None:
    """Rows are 1,980 an interaction on average, with a spread of about 6 % between events."""
    rows = np.array([event.cells.height for event in synthetic.events(mu, 40, seed=0)])
    assert rows.mean() == pytest.approx(1980 * mu, rel=0.03)
    assert 0.03 < rows.std() / rows.mean() < 0.09


def test_totals_of_ttbar_at_mu_200(mu200: pl.DataFrame) -> None:
    """3.64 cells a measurement, about 4.5 % repeated rows, a fifth of the measurements on long strips."""
    unique = mu200.unique(["geometry_id", "channel0", "channel1"])
    measurements = mu200["measurement_id"].n_unique()
    assert unique.height / measurements == pytest.approx(3.64, rel=0.05)
    assert 1 - unique.height / mu200.height == pytest.approx(0.045, abs=0.01)
    long = mu200.filter(pl.col("volume").is_in(LONG))["measurement_id"].n_unique()
    assert long / measurements == pytest.approx(0.21, abs=0.02)


def test_cells_lie_on_real_modules(mu200: pl.DataFrame) -> None:
    """Every id is one of the 18,824 modules, and every channel within its module."""
    modules = synthetic._modules()
    limits = pl.concat(
        pl.DataFrame({"geometry_id": m.geometry_id, "bins0": m.bins0, "bins1": m.bins1}) for m in modules.values()
    )
    assert limits.height == limits["geometry_id"].n_unique() == 18_824
    joined = mu200.join(limits, on="geometry_id", how="left")
    assert joined["bins0"].null_count() == 0
    assert (joined["channel0"] < joined["bins0"]).all()
    assert (joined["channel1"] < joined["bins1"]).all()
    assert joined.filter(pl.col("volume").is_in(LONG))["channel1"].max() == 0


def test_the_bits_of_an_identifier() -> None:
    """The id of volume 16, layer 12, sensitive 40, ring 2 is the one that stands in real files."""
    assert 1152922329240578050 in synthetic._modules()["pixel"].geometry_id


def test_values(mu200: pl.DataFrame) -> None:
    """Strips are digital; pixels hold path lengths within the range seen in real events; one-cell clusters peak."""
    strips = mu200.filter(pl.col("volume").is_in(SHORT + LONG))
    assert strips["value"].unique().to_list() == [1.0]
    pixels = mu200.filter(pl.col("volume").is_in(PIXEL))
    assert pixels["value"].is_between(0.01, 0.1611).all()
    assert pixels["value"].mean() == pytest.approx(0.056, abs=0.012)
    singles = pixels.filter(pl.len().over("measurement_id") == 1)["value"]
    assert singles.mean() == pytest.approx(0.1206, abs=0.003)
    assert mu200["timestamp"].unique().to_list() == [0.0]


def test_inner_layers_are_busier(mu200: pl.DataFrame) -> None:
    """Clusters a module fall from the innermost pixel barrel layer to the outermost."""
    barrel = mu200.filter(pl.col("volume") == 17).with_columns(layer=(pl.col("geometry_id") // 2**36) % 4096)
    by_layer = barrel.group_by("layer").agg(pl.col("measurement_id").n_unique()).sort("layer")["measurement_id"]
    per_module = by_layer.to_numpy() / np.array([224, 448, 728, 1092])
    assert (np.diff(per_module) < 0).all()


def test_clusters_are_connected(mu200: pl.DataFrame) -> None:
    """The cells of a pixel cluster that lies alone touch, corner to corner at least."""
    places = ["geometry_id", "channel0", "channel1"]
    pixels = mu200.filter(pl.col("volume").is_in(PIXEL)).unique(places, maintain_order=True)
    whole = pixels.filter(pl.col("measurement_id") < pixels["measurement_id"][4000])
    for (_,), cluster in list(whole.group_by("measurement_id", maintain_order=True))[:200]:
        cells = set(cluster.select("channel0", "channel1").iter_rows())
        reached, border = set[tuple[int, int]](), {next(iter(cells))}
        while border:
            reached |= border
            near = {(a + i, b + j) for a, b in border for i in (-1, 0, 1) for j in (-1, 0, 1)}
            border = (near & cells) - reached
        # A cell may belong to an earlier cluster that it overlaps: then the rest lies beyond one gap.
        assert len(reached) >= len(cells) - 3


def test_file_order(mu200: pl.DataFrame) -> None:
    """Rows are ordered by module, measurements are numbered in that order, and the columns are traccc's."""
    assert mu200["geometry_id"].is_sorted()
    assert mu200["measurement_id"].is_sorted()
    assert dict(mu200.drop("volume").schema) == CELLS_SCHEMA


@pytest.mark.parametrize("mu", [0.01, 0.5, 1])
def test_the_smallest_events_have_cells(mu: float) -> None:
    """Whatever the pile-up, an event is never empty."""
    assert all(event.cells.height > 0 for event in synthetic.events(mu, 5, seed=0))
