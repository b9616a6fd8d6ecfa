"""What this machine's client can do at best, measured by `calibrate` and kept: later runs are held against it."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec
import platformdirs

from loadgen import atomic
from loadgen.errors import PlanError

SIZES_APART = 4.0
"""A calibration speaks for requests up to so many times larger or smaller than its own."""


class Client(NamedTuple):
    """What can be calibrated: a way to send requests, on one machine."""

    host: str
    transport: str = "direct"
    connections: int = 1
    workers: int = 1


class Calibration(msgspec.Struct, frozen=True):
    """One client against a server that answers at once.

    `floor_ns` is the median service time at concurrency 1, `ceiling_per_s` the most requests a second, `cpu_alone_us`
    and `cpu_us` the processor time of a request at each, `null_cpu_us` what of it is not the transport's.
    """

    host: str
    transport: str
    connections: int
    workers: int
    request_bytes: int
    floor_ns: float
    ceiling_per_s: float
    ceiling_concurrency: int
    cpu_alone_us: float
    cpu_us: float
    null_cpu_us: float
    loadgen_version: str
    at_utc_ns: int

    def like(self, other: "Calibration") -> bool:
        """Say whether another is of the same client and size, so that the newer replaces the older."""
        return self.client == other.client and self.request_bytes == other.request_bytes

    @property
    def client(self) -> Client:
        """Whose calibration it is."""
        return Client(self.host, self.transport, self.connections, self.workers)

    def speaks_for(self, client: Client, request_bytes: float) -> bool:
        """Say whether it was made by this client, with requests of about such a size."""
        return self.client == client and _apart(self.request_bytes, request_bytes) <= SIZES_APART


def nearest(known: Iterable[Calibration], client: Client, request_bytes: float) -> Calibration | None:
    """Return the calibration that speaks best for a run; None if none does."""
    fitting = [each for each in known if each.speaks_for(client, request_bytes)]
    return min(fitting, key=lambda each: _apart(each.request_bytes, request_bytes), default=None)


def default_path() -> Path:
    """Return the file in the user's cache."""
    return platformdirs.user_cache_path("loadgen") / "calibration.json"


def read(path: Path) -> list[Calibration]:
    """Return what is kept; nothing if there is no file, or it is of another version."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Calibration])
    except (OSError, msgspec.MsgspecError):
        return []


def keep(path: Path, found: Calibration) -> None:
    """Add a calibration, in place of an earlier one of the same client and size.

    Raises:
        PlanError: the file cannot be written.
    """
    known = [each for each in read(path) if not each.like(found)]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PlanError(f"{path}: cannot be written: {error.strerror}") from error
    atomic.write(path, msgspec.json.format(msgspec.json.encode([*known, found]), indent=2) + b"\n")


def _apart(one: float, other: float) -> float:
    return math.exp(abs(math.log(max(one, 1.0) / max(other, 1.0))))
