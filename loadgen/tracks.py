"""Answers of `traccc-gpu`, in any of its signatures -> how many tracks they hold, and their chi2 and ndf; pure.

What an answer does not say stays unknown, with the reason: that it is of a form without the figure, or is malformed.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np
import numpy.typing as npt
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from loadgen.kserve import DTYPES

Floats = npt.NDArray[np.float64]
NONE: Floats = np.empty(0)
COUNTS = struct.Struct("<4Q")
"""Head of the raw form: measurements, tracks, states, links."""

ROWS, MOST_DIMENSIONS = 2, 32
"""Dimensions of a table, and what numpy of any version takes."""

FIT_COLUMNS = 8
"""TRK_PARAMS has chi2 and ndf in front since it has so many columns; with five it is l0, l1, phi, theta, q/p."""


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer says: `form` is its signature in a word, `chi2` and `ndf` have an entry a track.

    Both are empty, and `tracks` is None, where the answer does not say; `reason` is why something is missing.
    """

    form: str
    tracks: int | None = None
    chi2: Floats = field(default_factory=lambda: NONE)
    ndf: Floats = field(default_factory=lambda: NONE)
    reason: str = ""


class _MalformedError(ValueError):
    """An answer that contradicts itself; caught in `decode`."""


Outputs = dict[str, npt.NDArray[np.generic]]


def decode(response: bytes) -> Found:
    """Read a serialised ModelInferResponse; never raises."""
    try:
        outputs = _outputs(response)
        for names, form in FORMS:
            if names <= outputs.keys():
                return form(outputs)
    except _MalformedError as error:
        return Found("malformed", reason=str(error))
    return Found("unknown", reason=f"no known form of tracks: {', '.join(sorted(outputs)) or 'no output'}")


def _outputs(response: bytes) -> Outputs:
    try:
        message = service_pb2.ModelInferResponse.FromString(response)
    except DecodeError as error:
        raise _MalformedError("is no ModelInferResponse") from error
    declared, contents = message.outputs, message.raw_output_contents
    if len(declared) != len(contents):
        raise _MalformedError(f"{len(declared)} outputs, {len(contents)} raw contents")
    return {
        output.name: _tensor(output.name, output.datatype, tuple(output.shape), content)
        for output, content in zip(declared, contents, strict=True)
        if DTYPES.get(output.datatype, DTYPES["BYTES"]) != DTYPES["BYTES"]
    }


def _tensor(name: str, datatype: str, shape: tuple[int, ...], content: bytes) -> npt.NDArray[np.generic]:
    dtype = DTYPES[datatype]
    if len(shape) > MOST_DIMENSIONS:
        raise _MalformedError(f"{name}: has {len(shape)} dimensions")
    empty_rows = not content and max(shape[:1], default=0) > 0
    if min(shape, default=0) < 0 or prod(shape) * dtype.itemsize != len(content) or empty_rows:
        raise _MalformedError(f"{name}: {len(content)} bytes do not fit {datatype}{list(shape)}")
    # One dimension may be huge where another is 0: numpy would refuse it.
    return np.frombuffer(content, dtype).reshape(shape if content else (0,) * len(shape))


def _odd(outputs: Outputs) -> Found:
    """ODD: an entry a track, and how many positions each has."""
    chi2, ndf = _fits(outputs)
    lengths = outputs["local_positions_lengths"]
    if lengths.dtype.kind not in "iu" or lengths.size != chi2.size:
        raise _MalformedError(f"local_positions_lengths: {lengths.size} entries for {chi2.size} tracks")
    positions = outputs.get("local_positions")
    states = int(lengths.sum(dtype=np.int64))
    reason = ""
    if positions is not None and len(positions) != states:
        reason = f"local_positions: {len(positions)} rows for {states} states"
    return Found("ODD", chi2.size, chi2, ndf, reason)


def _odd_v2(outputs: Outputs) -> Found:
    """Before there were lengths: declared as one entry an event."""
    chi2, ndf = _fits(outputs)
    if chi2.size == 1:
        return Found("ODD v2", None, chi2, ndf, "one chi2 an event: it does not say how many tracks")
    return Found("ODD v2", chi2.size, chi2, ndf)


def _itk(outputs: Outputs) -> Found:
    """ITk: a row a track."""
    rows = outputs["TRK_PARAMS"]
    if rows.ndim != ROWS:
        raise _MalformedError(f"TRK_PARAMS: {list(rows.shape)} is no table")
    fits = _floats("TRK_PARAMS", rows)
    tracks, columns = rows.shape
    if tracks and columns < FIT_COLUMNS:
        return Found("ITk", tracks, reason=f"TRK_PARAMS has {columns} columns: chi2 and ndf are not among them")
    return Found("ITk", tracks, fits[:, 0] if tracks else NONE, fits[:, 1] if tracks else NONE)


def _raw(outputs: Outputs) -> Found:
    """Raw: four counts, then columns; every measurement, track, state and link takes at least a byte."""
    content = outputs["TRACKS"].tobytes()
    if len(content) < COUNTS.size:
        raise _MalformedError(f"TRACKS: {len(content)} bytes, less than the {COUNTS.size} of its counts")
    measurements, tracks, states, links = COUNTS.unpack_from(content)
    if measurements + tracks + states + links > len(content) - COUNTS.size:
        raise _MalformedError(
            f"TRACKS: {len(content)} bytes are too few for {measurements} measurements, {tracks} tracks, "
            f"{states} states and {links} links"
        )
    return Found("raw", tracks, reason="the raw form is read as far as its counts: no chi2, no ndf")


def _labels(_outputs: Outputs) -> Found:
    return Found("labels", reason="LABELS says nothing of tracks")


FORMS: tuple[tuple[frozenset[str], Callable[[Outputs], Found]], ...] = (
    (frozenset({"chi2", "ndf", "local_positions_lengths"}), _odd),
    (frozenset({"chi2", "ndf"}), _odd_v2),
    (frozenset({"TRK_PARAMS"}), _itk),
    (frozenset({"TRACKS"}), _raw),
    (frozenset({"LABELS"}), _labels),
)
"""Outputs that tell a form from the others, in the order in which they are looked for."""


def _fits(outputs: Outputs) -> tuple[Floats, Floats]:
    chi2, ndf = outputs["chi2"].ravel(), outputs["ndf"].ravel()
    if chi2.size != ndf.size:
        raise _MalformedError(f"chi2 has {chi2.size} entries, ndf {ndf.size}")
    return _floats("chi2", chi2), _floats("ndf", ndf)


def _floats(name: str, values: npt.NDArray[np.generic]) -> Floats:
    if values.dtype.kind != "f":
        raise _MalformedError(f"{name}: is of {values.dtype}, not of floating point")
    with np.errstate(invalid="ignore"):  # a signalling NaN is one all the same
        return values.astype(np.float64)
