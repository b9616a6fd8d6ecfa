"""Do the numbers of a point agree with each other: each check with its figures, in words. Pure.

What they cannot see is said too: a check that could not be made is not one that was passed.
"""

from collections.abc import Mapping
from typing import Any

LITTLE_SHARE = 0.005
"""Throughput x mean service time differs from the requests in flight by this share, or by what the window's edges cut
through. The exact form of the law is the worker's book; this one is for people.
"""

STAGES_SHARE = 0.02
STAGES_NS = 200_000
"""The server's stages may exceed our service time by these: its clock and ours are read at different moments. And by
the share of requests that were in flight at the window's edges: either side may count them and the other not.
"""

Row = Mapping[str, Any]


def little(row: Row) -> tuple[float, float] | None:
    """Return by which share throughput x mean service time differs from the mean in flight, and what is allowed."""
    mean_ns, in_flight = row["service_mean_ns"], row["in_flight_mean"]
    if mean_ns is None or not in_flight or row["failed"]:
        return None
    share = row["throughput_per_s"] * mean_ns / 1e9 / in_flight - 1
    return share, LITTLE_SHARE + row["in_flight_cut"] / in_flight


def little_fails(row: Row) -> str | None:
    """Say that the law does not hold; None if it does, or cannot be asked."""
    found = little(row)
    if found is None or abs(found[0]) <= found[1]:
        return None
    product = row["throughput_per_s"] * row["service_mean_ns"] / 1e9
    return f"throughput x mean service time is {product:.3g}, {row['in_flight_mean']:.3g} were in flight"


def stages(row: Row) -> tuple[float, float] | None:
    """Return the server's queue and compute time a request, and our mean service time, both in nanoseconds."""
    if row["network_ns"] is None or row["service_mean_ns"] is None:
        return None
    return row["service_mean_ns"] - row["network_ns"], row["service_mean_ns"]


def stages_exceed(row: Row) -> str | None:
    """Say that the server claims more time than passed at the client; None if it does not."""
    found = stages(row)
    if found is None:
        return None
    at_edges = 2 * row["in_flight_mean"] / max(1, row["completed"])
    if found[0] <= found[1] * (1 + at_edges) + max(STAGES_NS, STAGES_SHARE * found[1]):
        return None
    return f"queue and compute add up to {found[0] / 1e6:.3g} ms, our service time is {found[1] / 1e6:.3g} ms"


def in_words(row: Row, unavailable: str = "", replicas: int = 0) -> str:
    """Return every check of a point with its figures: `server 238 = 238; Little +0.02 % of 1.1 %; ...`.

    `unavailable` says why the server's statistics are not used; `replicas` were added up, if not 0.
    """
    ours, theirs = row["point_ok"], row["point_server_success"]
    sign = "=" if theirs == ours else "≠"
    server = f"server {theirs} {sign} {ours}{f' (sum of {replicas} replicas)' if replicas else ''}"
    missing = f"server's statistics not available: {unavailable}" if unavailable else "server's counts not known"
    said = [missing if theirs is None else server]
    residual_ns = row["little_residual_ns"]
    said.append("no book of requests in flight" if residual_ns is None else f"books differ by {residual_ns} ns")
    found = little(row)
    said += [f"Little {100 * found[0]:+.2f} % (of {100 * found[1]:.1f} % allowed)"] if found else []
    times = stages(row)
    said.append(f"stages {times[0] / 1e6:.3g} of {times[1] / 1e6:.3g} ms" if times else "stages not known")
    said += [f"client CPU {row['client_cpu']:.0%}"] if row["client_cpu"] is not None else []
    said += [f"loop lag p99 {row['loop_lag_p99_ns'] / 1e6:.2g} ms"] if row["loop_lag_p99_ns"] is not None else []
    said += [f"send lag p99 {row['send_lag_p99_ns'] / 1e6:.2g} ms"] if row["send_lag_p99_ns"] is not None else []
    return "; ".join(said)
