"""Stand-in for `traccc-gpu` on Triton's Python backend: real work that grows with the event, but no tracking.

Cells are merged where they repeat, joined to clusters (8 neighbours, per module) and weighted by value; each
cluster is handed back as one measurement and one track in the tensors of the signature. Equal requests get equal
answers. Runs inside Triton, where only numpy and the backend's own module exist.
"""

import ctypes
import json
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]

CHANNEL_BITS = 21
ROW = 1 << CHANNEL_BITS
"""Distance in key between equal channel0 of neighbouring channel1."""

CHANNEL_MAX = ROW - 2
"""One channel stays free: a step past an edge lands on a key that no cell has."""

MODULES_MAX = 1 << (63 - 2 * CHANNEL_BITS)
PIXEL_VARIANCE = 1 / 12
"""Variance of a flat distribution over one cell, in units of the cell's width squared."""

MEASUREMENT_COLUMNS = 6
TRACK_COLUMNS = 8
COVARIANCE_COLUMNS = 25


@dataclass(frozen=True, slots=True)
class Clusters:
    """One entry a cluster, ordered by its first cell (module, channel1, channel0); lengths in cell widths."""

    module_ids: npt.NDArray[Any]
    positions: Floats
    variances: Floats
    chi2: Floats
    cells: Ints


def cluster(module_ids: npt.NDArray[Any], channels: npt.NDArray[Any], values: Floats) -> Clusters:
    """Cluster cells given as N ids, N x 2 channels (0, 1) and N values.

    Raises:
        ValueError: a channel is no whole number within range, a value is not finite, or too many modules.
    """
    modules, keys, values = _merged(module_ids, _checked_channels(channels), _checked_values(values))
    labels, first = connected_components(keys)
    cells = np.bincount(labels, minlength=first.size)
    positions, variances = _moments(labels, keys, values, first.size)
    away = values - (_sums(labels, values, first.size) / cells)[labels]
    chi2 = _sums(labels, away * away, first.size)
    return Clusters(modules[keys[first] >> 2 * CHANNEL_BITS], positions, variances, chi2, cells)


def connected_components(keys: Ints) -> tuple[Ints, Ints]:
    """Join cells, given as ascending distinct keys, that touch by side or corner within a module.

    Returns:
        The cluster number of each cell, counted by first cell from 0, and the first cell of each cluster.
    """
    labels = np.arange(keys.size)
    left, right = _neighbours(keys)
    while left.size:
        # Each tree hangs itself below the smallest root it touches, then every cell is led to its root.
        a, b = labels[left], labels[right]
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while not np.array_equal(labels, up := labels[labels]):
            labels = up
        still_apart = labels[left] != labels[right]
        left, right = left[still_apart], right[still_apart]
    is_root = labels == np.arange(keys.size)
    return (np.cumsum(is_root) - 1)[labels], np.flatnonzero(is_root)


def _neighbours(keys: Ints) -> tuple[Ints, Ints]:
    here = np.arange(keys.size)
    left, right = [here[:-1][np.diff(keys) == 1]], [here[1:][np.diff(keys) == 1]]
    # In the next row the three neighbours have consecutive keys, so they follow each other from one found place;
    # two are enough, because a third would touch the second.
    corner = keys + ROW - 1
    place = np.searchsorted(keys, corner)
    for step in range(2):
        there = np.minimum(place + step, keys.size - 1)
        touches = (keys[there] >= corner) & (keys[there] <= corner + 2) & (place + step < keys.size)
        left.append(here[touches])
        right.append(there[touches])
    return np.concatenate(left), np.concatenate(right)


def _merged(module_ids: npt.NDArray[Any], channels: Ints, values: Floats) -> tuple[npt.NDArray[Any], Ints, Floats]:
    modules, numbers = np.unique(module_ids, return_inverse=True)
    if modules.size > MODULES_MAX:
        raise ValueError(f"{modules.size} modules in one event: more than {MODULES_MAX}")
    keys = (numbers.astype(np.int64) << 2 * CHANNEL_BITS) | (channels[:, 1] << CHANNEL_BITS) | channels[:, 0]
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return modules, keys[first], np.add.reduceat(values, first) if first.size else values


def _moments(labels: Ints, keys: Ints, values: Floats, count: int) -> tuple[Floats, Floats]:
    weights = np.maximum(values, np.finfo(np.float32).tiny)
    total = _sums(labels, weights, count)
    channels = np.stack((keys & (ROW - 1), (keys >> CHANNEL_BITS) & (ROW - 1)), axis=1).astype(np.float64)
    positions, variances = np.empty((count, 2)), np.empty((count, 2))
    for axis in range(2):
        positions[:, axis] = _sums(labels, weights * channels[:, axis], count) / total
        away = channels[:, axis] - positions[labels, axis]
        variances[:, axis] = _sums(labels, weights * away**2, count) / total + PIXEL_VARIANCE
    return positions, variances


def _sums(labels: Ints, values: Floats, count: int) -> Floats:
    return np.bincount(labels, values, count).astype(np.float64, copy=False)


def _checked_channels(channels: npt.NDArray[Any]) -> Ints:
    if channels.size and not ((channels >= 0) & (channels <= CHANNEL_MAX)).all():
        raise ValueError(f"a channel is outside 0 to {CHANNEL_MAX}")
    whole = channels.astype(np.int64)
    if not np.array_equal(whole, channels):
        raise ValueError("a channel is not a whole number")
    return whole


def _checked_values(values: Floats) -> Floats:
    if not np.isfinite(values).all():
        raise ValueError("a cell's value is not finite")
    return values.astype(np.float64)


def answer_odd(inputs: Arrays) -> Arrays:
    """Answer one ODD request: GEOMETRY_ID [N], FEATURES [N,5] = measurement id, channel0, channel1, time, value.

    Raises:
        ValueError: shapes do not fit together, or the cells cannot be clustered.
    """
    ids, features = inputs["GEOMETRY_ID"], inputs["FEATURES"]
    _check_rows("GEOMETRY_ID", ids, "FEATURES", features, (5,))
    found = cluster(ids, features[:, 1:3], features[:, 4])
    return {
        "chi2": found.chi2.astype(np.float32),
        "ndf": found.cells.astype(np.float32),
        "local_positions": found.positions.astype(np.float32),
        "local_positions_lengths": np.ones(found.cells.size, dtype=np.int32),
        "variances": found.variances.astype(np.float32),
    }


def answer_itk(inputs: Arrays) -> Arrays:
    """Answer one ITk request.

    CELL_POSITIONS [N,4] = module id, measurement id, channel0, channel1; CELL_PROPERTIES [N,2] = time, value.
    GEOMETRY_IDS comes back with one dimension and a 0 between tracks, as traccc's does.

    Raises:
        ValueError: shapes do not fit together, or the cells cannot be clustered.
    """
    cells, properties = inputs["CELL_POSITIONS"], inputs["CELL_PROPERTIES"]
    _check_rows("CELL_POSITIONS", cells[:, 0], "CELL_PROPERTIES", properties, (2,))
    found = cluster(cells[:, 0], cells[:, 2:4], properties[:, 1])
    count = found.cells.size
    tracks = np.zeros((count, TRACK_COLUMNS), dtype=np.float32)
    tracks[:, 0], tracks[:, 1], tracks[:, 2:4] = found.chi2, found.cells, found.positions
    measurements = np.zeros((count, MEASUREMENT_COLUMNS), dtype=np.float32)
    measurements[:, :2] = found.positions
    covariances = np.zeros((count, COVARIANCE_COLUMNS), dtype=np.float32)
    covariances[:, 0], covariances[:, 6] = found.variances.T
    module_ids = np.zeros(max(0, 2 * count - 1), dtype=np.int64)
    module_ids[::2] = found.module_ids
    return {
        "TRK_PARAMS": tracks,
        "MEASUREMENTS": measurements,
        "COVARIANCES": covariances,
        "GEOMETRY_IDS": module_ids,
    }


def _check_rows(
    name: str, ids: npt.NDArray[Any], other: str, rows: npt.NDArray[Any], columns: tuple[int, ...]
) -> None:
    if ids.ndim != 1 or rows.shape != (ids.size, *columns):
        raise ValueError(f"{name} has {ids.shape[0]} cells, but {other} has shape {list(rows.shape)}")


ANSWERS = {
    frozenset({"GEOMETRY_ID", "FEATURES"}): answer_odd,
    frozenset({"CELL_POSITIONS", "CELL_PROPERTIES"}): answer_itk,
}
"""Names of the declared inputs -> how to answer; the configuration decides, this file serves every signature."""


class TritonPythonModel:
    """What Triton's Python backend looks for in a model file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        config = json.loads(arguments["model_config"])
        self._inputs = frozenset(tensor["name"] for tensor in config["input"])
        self._answer = ANSWERS[self._inputs]
        self._stretch = float(config["parameters"].get("stretch", {"string_value": 1})["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:  # noqa: ANN401 - types of the backend, which exist inside it only
        import triton_python_backend_utils as backend  # noqa: PLC0415 - exists inside the backend only

        tensors = {name: _received(backend.get_input_tensor_by_name(request, name)) for name in self._inputs}
        begun_s = time.perf_counter()
        try:
            answer = self._answer(tensors)
        except ValueError as error:
            return backend.InferenceResponse(error=backend.TritonError(f"stand-in: {error}"))
        if self._stretch > 1:  # as on a GPU, time passes without the processor
            time.sleep((self._stretch - 1) * (time.perf_counter() - begun_s))
        return backend.InferenceResponse([_to_send(backend, name, data) for name, data in answer.items()])


# Tensors pass as DLPack: this backend was built for numpy 1, and its own conversions lose the data under numpy 2.


def _received(tensor: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    return np.from_dlpack(tensor)


def _to_send(backend: Any, name: str, data: npt.NDArray[Any]) -> Any:  # noqa: ANN401
    # The backend refuses the strides that numpy gives an empty array, which has no data to lose.
    if data.size == 0:
        return backend.Tensor(name, data)
    capsule = data.__dlpack__()
    # The backend frees the array, but renames the capsule to what numpy's destructor takes for a mistake and reports.
    ctypes.pythonapi.PyCapsule_SetDestructor(ctypes.py_object(capsule), None)
    return backend.Tensor.from_dlpack(name, capsule)
