"""Two answers to one event -> what of their tracks differs, in words; pure.

Tracks found by many threads at once may come in another order, and sums rounded otherwise: both are told from other
tracks.
"""

from typing import Any

import numpy as np

from analysis.readable import counted
from loadgen.tracks import Found

ROUNDING = 1e-4
"""Relative difference of a sum over an event's tracks up to which it counts as rounding of single precision."""

NOT_KEPT = "not kept whole: what differs is not known (`--answers decode` keeps it)"


def difference(first: Found | None, other: Found | None) -> str:
    """Say in words what of the tracks differs between two answers to one event."""
    if first is None or other is None:
        return NOT_KEPT
    if first.tracks != other.tracks:
        return f"other tracks: {_tracks(other)}, not {_tracks(first)}"
    if not first.chi2.size or first.chi2.size != other.chi2.size:
        return f"as many tracks ({_tracks(first)}); {first.reason or other.reason or 'no chi2 to compare'}"
    return _fits(first, other)


def _fits(first: Found, other: Found) -> str:
    pairs, others = (np.stack((each.chi2, each.ndf)) for each in (first, other))
    if np.array_equal(pairs, others, equal_nan=True):
        return "the same tracks, chi2 and ndf: what differs is beyond them"
    if np.array_equal(_sorted(pairs), _sorted(others), equal_nan=True):
        return "the same tracks in another order"
    apart = _apart(pairs, others)
    if apart <= ROUNDING:
        return f"as many tracks, sums of chi2 and ndf alike within rounding ({apart:.1g})"
    return f"as many tracks, but sums of chi2 and ndf {apart:.2g} apart"


def _apart(pairs: Any, others: Any) -> float:  # noqa: ANN401 - arrays of two rows
    """Return the largest relative difference of the sums of two answers."""
    with np.errstate(invalid="ignore", over="ignore"):
        sums, other_sums = pairs.sum(axis=1), others.sum(axis=1)
        scale = np.maximum(np.maximum(abs(sums), abs(other_sums)), np.finfo(float).tiny)
        apart = float(np.max(abs(sums - other_sums) / scale))
    return apart if np.isfinite(apart) else np.inf


def _sorted(pairs: Any) -> Any:  # noqa: ANN401
    return pairs[:, np.lexsort(pairs)]


def _tracks(found: Found) -> str:
    return counted(found.tracks, "track") if found.tracks is not None else f"not known how many ({found.reason})"
