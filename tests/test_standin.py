"""The stand-in model: its clusters, checked against a slow reference, and the tensors of each signature."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.server.standin import traccc_gpu as standin

Cell = tuple[int, int, int, float]
MODULE = 1152922329240578050

small = st.integers(0, 6)
edge = st.integers(standin.CHANNEL_MAX - 3, standin.CHANNEL_MAX)
cells_of_few_modules = st.lists(
    st.tuples(st.integers(0, 2), small | edge, small | edge, st.floats(0.01, 2.0)), max_size=60
)


def clustered(cells: list[Cell]) -> standin.Clusters:
    table = np.array(cells, dtype=np.float64).reshape(-1, 4)
    return standin.cluster(MODULE + table[:, 0].astype(np.uint64), table[:, 1:3], table[:, 3])


def slow_clusters(cells: list[Cell]) -> list[tuple[int, dict[tuple[int, int], float]]]:
    """Flood-fill merged cells one by one: per cluster its module and the value of each cell."""
    merged: dict[tuple[int, int, int], float] = {}
    for module, channel0, channel1, value in cells:
        merged[module, channel1, channel0] = merged.get((module, channel1, channel0), 0.0) + value
    clusters = []
    for start in sorted(merged):
        pending, found = [start], {}
        while pending:
            module, row, column = cell = pending.pop()
            if cell in merged:
                found[column, row] = merged.pop(cell)
                pending += [(module, row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        if found:
            clusters.append((MODULE + start[0], found))
    return clusters


@given(cells_of_few_modules)
def test_clusters_are_those_of_a_flood_fill(cells: list[Cell]) -> None:
    """Same clusters, in the order of their first cell, with the sums and centroids of plain arithmetic."""
    fast, slow = clustered(cells), slow_clusters(cells)
    assert fast.module_ids.tolist() == [module for module, _ in slow]
    assert fast.cells.tolist() == [len(found) for _, found in slow]
    for index, (_, found) in enumerate(slow):
        channels, values = np.array(list(found)), np.array(list(found.values()))
        centroid = np.average(channels, axis=0, weights=values)
        spread = np.average((channels - centroid) ** 2, axis=0, weights=values) + 1 / 12
        assert fast.positions[index] == pytest.approx(centroid)
        assert fast.variances[index] == pytest.approx(spread)
        assert fast.chi2[index] == pytest.approx(((values - values.mean()) ** 2).sum(), abs=1e-9)


@given(st.integers(0, 2**32), st.floats(0.2, 0.7))
@settings(max_examples=10, deadline=None)
def test_large_clusters_are_those_of_a_flood_fill(seed: int, occupancy: float) -> None:
    """Clusters of hundreds of cells that wind through a crowded module come out whole."""
    rng = np.random.default_rng(seed)
    cells = [(0, int(i), int(j), 1.0) for i, j in np.argwhere(rng.random((50, 50)) < occupancy)]
    assert clustered(cells).cells.tolist() == [len(found) for _, found in slow_clusters(cells)]


@given(st.permutations(range(30)))
def test_long_winding_cluster_is_one(order: list[int]) -> None:
    """Thirty cells in a diagonal chain are one cluster in whatever order the rows come."""
    assert clustered([(0, 2 * i, abs(i % 4 - 2), 1.0) for i in order]).cells.size > 1
    assert clustered([(0, i, abs(i % 8 - 4), 1.0) for i in order]).cells.tolist() == [30]


def odd_request(cells: list[Cell]) -> dict[str, Any]:
    ids = np.array([MODULE + cell[0] for cell in cells], dtype=np.uint64)
    features = np.array([(7, cell[1], cell[2], 0, cell[3]) for cell in cells], dtype=np.float64)
    return {"GEOMETRY_ID": ids, "FEATURES": features.reshape(-1, 5)}


def itk_request(cells: list[Cell]) -> dict[str, Any]:
    positions = np.array([(MODULE + cell[0], 7, cell[1], cell[2]) for cell in cells], dtype=np.int64)
    properties = np.array([(0, cell[3]) for cell in cells], dtype=np.float32)
    return {"CELL_POSITIONS": positions.reshape(-1, 4), "CELL_PROPERTIES": properties.reshape(-1, 2)}


TWO_CLUSTERS: list[Cell] = [(0, 10, 20, 1.0), (0, 11, 21, 3.0), (1, 10, 20, 1.0), (1, 10, 20, 1.0)]


def test_odd_answer_of_two_clusters() -> None:
    """A pair of diagonal cells weighs 1 to 3, a repeated cell counts once, and modules stay apart."""
    answer = standin.answer_odd(odd_request(TWO_CLUSTERS))
    assert answer["ndf"].tolist() == [2, 1]
    assert answer["chi2"].tolist() == [2, 0]
    assert answer["local_positions"].tolist() == [[10.75, 20.75], [10, 20]]
    assert answer["local_positions_lengths"].tolist() == [1, 1]
    assert answer["variances"] == pytest.approx(np.array([[0.1875, 0.1875], [0, 0]]) + 1 / 12)
    assert {name: str(data.dtype) for name, data in answer.items() if data.dtype != np.float32} == {
        "local_positions_lengths": "int32"
    }


def test_itk_answer_of_two_clusters() -> None:
    """Track and measurement columns hold the cluster, and a 0 stands between the module ids of two tracks."""
    answer = standin.answer_itk(itk_request(TWO_CLUSTERS))
    assert answer["TRK_PARAMS"].tolist() == [[2, 2, 10.75, 20.75, 0, 0, 0, 0], [0, 1, 10, 20, 0, 0, 0, 0]]
    assert answer["MEASUREMENTS"].tolist() == [[10.75, 20.75, 0, 0, 0, 0], [10, 20, 0, 0, 0, 0]]
    assert answer["COVARIANCES"][0, [0, 6]] == pytest.approx(0.1875 + 1 / 12)
    assert np.count_nonzero(answer["COVARIANCES"]) == 4
    assert answer["GEOMETRY_IDS"].tolist() == [MODULE, 0, MODULE + 1]


def test_empty_event_has_empty_answers() -> None:
    """No cell is no cluster, in the declared number of dimensions and columns."""
    odd, itk = standin.answer_odd(odd_request([])), standin.answer_itk(itk_request([]))
    assert [data.shape for data in odd.values()] == [(0,), (0,), (0, 2), (0,), (0, 2)]
    assert [data.shape for data in itk.values()] == [(0, 8), (0, 6), (0, 25), (0,)]


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ((0, -1, 0, 1.0), "outside"),
        ((0, 0, standin.CHANNEL_MAX + 1, 1.0), "outside"),
        ((0, np.nan, 0, 1.0), "outside"),
        ((0, 0.5, 0, 1.0), "whole"),
        ((0, 0, 0, np.inf), "finite"),
    ],
)
def test_cells_that_cannot_be_are_refused(cell: Cell, complaint: str) -> None:
    """A channel or value that no detector gives is an error that says which rule it broke."""
    with pytest.raises(ValueError, match=complaint):
        standin.answer_odd(odd_request([cell]))


def test_tensors_of_different_lengths_are_refused() -> None:
    """Ids and cells that do not pair up are an error that names both tensors."""
    odd, itk = odd_request(TWO_CLUSTERS), itk_request(TWO_CLUSTERS)
    with pytest.raises(ValueError, match=r"GEOMETRY_ID has 3 cells, but FEATURES has shape \[4, 5\]"):
        standin.answer_odd({**odd, "GEOMETRY_ID": odd["GEOMETRY_ID"][:3]})
    with pytest.raises(ValueError, match=r"CELL_POSITIONS has 4 cells, but CELL_PROPERTIES has shape \[2, 2\]"):
        standin.answer_itk({**itk, "CELL_PROPERTIES": itk["CELL_PROPERTIES"][:2]})
