"""NVIDIA's management library: the GPUs of this host, read beside the load where the server's page may have none.

`nvidia-ml-py` (extra `gpu`) is asked through `Library`, which is what of its module `pynvml` is used.
"""

import importlib
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol, cast

import psutil

from loadgen import endpoint as endpoints
from loadgen.endpoint import UNIX
from loadgen.errors import PlanError
from loadgen.rundir import Sample, canonical_labels

SOURCE = "nvml"
Choice = Literal["auto", "on", "off"]


class Library(Protocol):
    """The functions of `pynvml` that are used; a handle is whatever the library calls a device."""

    NVMLError: type[Exception]

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        """Find the driver; NVMLError if there is none."""

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Let go of it."""

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Return how many GPUs there are."""

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802, ANN401
        """Return one of them."""

    def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802, ANN401
        """Return its name, as Triton's `gpu_uuid`."""

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802, ANN401
        """Return its use: `gpu` is the percent of the last sample period in which a kernel ran."""

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:  # noqa: N802, ANN401
        """Return milliwatts."""

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int:  # noqa: N802, ANN401
        """Return milliwatts: the lowest of all limits that are set."""

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802, ANN401
        """Return bytes: `used`, `total`."""

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:  # noqa: N802, ANN401
        """Return millijoules since the driver was loaded."""


def installed() -> Library | None:
    """Return the library if it is installed; whether there is a driver is another question."""
    try:
        return cast("Library", importlib.import_module("pynvml"))
    except ImportError:
        return None


@contextmanager
def opened(choice: Choice, grpc: str, library: Library | None) -> Iterator[Callable[[int], list[Sample]] | None]:
    """Yield a function that reads this host's GPUs, or None where there is nothing to read.

    `auto` reads where the server's address is this host's; `on` reads wherever the server is.

    Raises:
        PlanError: `on`, and the library, a driver or a GPU is missing.
    """
    if choice == "off" or (choice == "auto" and (library is None or not is_local(grpc))):
        yield None
        return
    found = _begin(library)
    if isinstance(found, str):
        if choice == "on":
            raise PlanError(f"nvml: {found}; leave out --nvml, or write --nvml off")
        yield None
        return
    assert library is not None
    try:
        yield lambda at_ns: read(library, found, at_ns)
    finally:
        library.nvmlShutdown()


def _begin(library: Library | None) -> list[Any] | str:
    """Open the library and return its GPUs; in words what is missing, if there are none."""
    if library is None:
        return "the library is not installed (pip install 'loadgen[gpu]')"
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return f"no NVIDIA driver answers here ({error})"
    handles, refusal = [], "none is there"
    try:
        handles = [library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())]
    except library.NVMLError as error:
        refusal = str(error)
    if handles:
        return handles
    library.nvmlShutdown()
    return f"this host has no NVIDIA GPU that can be read ({refusal})"


def read(library: Library, handles: list[Any], at_ns: int) -> list[Sample]:
    """Return the figures of each GPU that it has; what a GPU does not measure is missing."""
    return [sample for handle in handles for sample in _of_gpu(library, handle, at_ns)]


def _of_gpu(library: Library, handle: Any, at_ns: int) -> Iterator[Sample]:  # noqa: ANN401 - a handle
    def asked(ask: Callable[[Any], Any]) -> Any:  # noqa: ANN401 - as the library answers
        try:
            return ask(handle)
        except library.NVMLError:
            return None

    uuid = asked(library.nvmlDeviceGetUUID)
    if uuid is None:  # it fell off the bus
        return
    labels = canonical_labels({"gpu_uuid": str(uuid)})
    use, memory = asked(library.nvmlDeviceGetUtilizationRates), asked(library.nvmlDeviceGetMemoryInfo)
    figures = {
        "nvml_utilization_gpu_percent": use and use.gpu,
        "nvml_power_usage_milliwatts": asked(library.nvmlDeviceGetPowerUsage),
        "nvml_enforced_power_limit_milliwatts": asked(library.nvmlDeviceGetEnforcedPowerLimit),
        "nvml_memory_used_bytes": memory and memory.used,
        "nvml_memory_total_bytes": memory and memory.total,
        "nvml_total_energy_consumption_millijoules": asked(library.nvmlDeviceGetTotalEnergyConsumption),
    }
    for metric, value in figures.items():
        if value is not None:
            yield Sample(at_ns, SOURCE, metric, labels, float(value))


def is_local(grpc: str) -> bool:
    """Say whether an address is one of this host's.

    A port forward to another host looks local too: then the page names other GPUs than NVML, and NVML's are left out.
    """
    if grpc.startswith(UNIX):
        return True
    own = {address.address.split("%")[0] for each in psutil.net_if_addrs().values() for address in each}
    try:
        found = socket.getaddrinfo(endpoints.host_and_port(grpc)[0], None)
    except OSError:
        return False
    return any(str(place[0]).split("%")[0] in own or str(place[0]).startswith("127.") for *_, place in found)
