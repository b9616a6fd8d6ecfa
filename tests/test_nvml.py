"""NVML: what a library like pynvml says of GPUs becomes samples; what it does not say is missing."""

import asyncio
import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from loadgen import nvml
from loadgen.cli import app
from loadgen.errors import PlanError
from loadgen.gpus import FIGURES
from loadgen.rundir import Sample
from loadgen.sampling import Sampler

HERE, ELSEWHERE = "localhost:8001", "192.0.2.7:8001"


class NoFigureError(Exception):
    """What `pynvml` calls NVMLError; one of its kind says that a GPU does not measure something."""


class TwoGpus:
    """Simulates `pynvml` on a host with two GPUs, of which the second measures neither power nor energy."""

    NVMLError: type[Exception] = NoFigureError

    def __init__(self, count: int = 2, driver: bool = True) -> None:
        self.count, self.driver, self.is_open = count, driver, False

    def nvmlInit(self) -> None:  # noqa: N802
        """Open."""
        if not self.driver:
            raise NoFigureError("NVML Shared Library Not Found")
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        """Close."""
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        """Count."""
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        """Return the number itself."""
        return index

    def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
        """Name."""
        return f"GPU-{handle}"

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        """Percent."""
        return SimpleNamespace(gpu=0 if handle else 87, memory=12)

    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:  # noqa: N802
        """Milliwatts."""
        return self._only_first(handle, 250_500)

    def nvmlDeviceGetEnforcedPowerLimit(self, handle: Any) -> int:  # noqa: N802
        """Milliwatts."""
        return 400_000

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        """Bytes."""
        return SimpleNamespace(used=1 << 30, total=40 << 30, free=39 << 30)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:  # noqa: N802
        """Millijoules."""
        return self._only_first(handle, 123_456_789)

    @staticmethod
    def _only_first(handle: Any, value: int) -> int:
        if handle:
            raise NoFigureError("Not Supported")
        return value


def by_gpu(samples: list[Sample]) -> dict[str, dict[str, float]]:
    """Return the figures in our units, by GPU and column."""
    found: dict[str, dict[str, float]] = {}
    for sample in samples:
        figure = FIGURES[sample.metric]
        found.setdefault(json.loads(sample.labels)["gpu_uuid"], {})[figure.column] = sample.value * figure.factor
    return found


def test_two_gpus_one_without_power() -> None:
    """Percent, milliwatts, millijoules and bytes of each; what a GPU does not measure has no sample, 0 % has one."""
    with nvml.opened("auto", HERE, TwoGpus()) as read:
        assert read is not None
        samples = read(7)
    assert {(sample.at_ns, sample.source) for sample in samples} == {(7, "nvml")}
    memory = {"power_limit_w": 400.0, "memory_used_bytes": float(1 << 30), "memory_total_bytes": float(40 << 30)}
    first = {"utilisation": 0.87, "power_w": 250.5, "energy_j": 123_456.789, **memory}
    assert by_gpu(samples) == {"GPU-0": pytest.approx(first), "GPU-1": {"utilisation": 0.0, **memory}}


def test_the_library_is_let_go() -> None:
    """Open while it is read, closed afterwards, and closed where there is no GPU."""
    library = TwoGpus()
    with nvml.opened("on", ELSEWHERE, library):
        assert library.is_open
    assert not library.is_open
    none = TwoGpus(count=0)
    with nvml.opened("auto", HERE, none) as read:
        assert read is None
    assert not none.is_open


@pytest.mark.parametrize("library", [None, TwoGpus(driver=False), TwoGpus(count=0)])
def test_absent_is_an_error_only_where_it_was_asked_for(library: TwoGpus | None) -> None:
    """No library, no driver, no GPU: nothing is read, and with `on` one line says what is missing and what to do."""
    for choice in ("auto", "off"):
        with nvml.opened(choice, HERE, library) as read:
            assert read is None
    with pytest.raises(PlanError, match=r"^nvml: .*--nvml off$"), nvml.opened("on", HERE, library):
        pass


def test_auto_reads_only_where_the_server_is_on_this_host() -> None:
    """Our own GPUs are not those of a server elsewhere."""
    assert all(map(nvml.is_local, (HERE, "unix:/tmp/s", "127.0.1.1:1", "[::1]:1")))
    assert not any(map(nvml.is_local, (ELSEWHERE, "no.such.host.invalid:1")))
    with nvml.opened("auto", ELSEWHERE, TwoGpus()) as read:
        assert read is None
    with nvml.opened("off", HERE, TwoGpus()) as read:
        assert read is None


def test_a_gpu_that_fell_off_the_bus_has_no_figure() -> None:
    """Nothing is made up for it, and the other one is read."""

    class Lost(TwoGpus):
        def nvmlDeviceGetUUID(self, handle: Any) -> str:  # noqa: N802
            return str(self._only_first(handle, 1))

    assert set(by_gpu(nvml.read(Lost(), [0, 1], 0))) == {"1"}


def test_a_slow_reading_does_not_hold_the_event_loop() -> None:
    """While one reading is under way in its thread, the loop turns; the figures come when it is done."""

    async def main() -> tuple[int, list[Sample]]:
        released, found, turns = threading.Event(), list[Sample](), 0

        def read(at_ns: int) -> list[Sample]:
            assert released.wait(60)
            return [Sample(at_ns, "nvml", "m", "{}", 1.0)]

        sampler = Sampler(read, 1000, found.extend)
        reading = asyncio.create_task(sampler.once())
        for turns in range(1, 101):  # noqa: B007 - counted
            await asyncio.sleep(0)
        assert not found
        released.set()
        await reading
        sampler.close()
        return turns, found

    turns, found = asyncio.run(main())
    assert turns == 100
    assert [sample.value for sample in found] == [1.0]


def test_a_run_that_asks_for_gpus_of_a_host_without_is_refused_before_it_begins(tmp_path: Path) -> None:
    """Exit code 2, one line, and no run directory."""
    library = nvml.installed()
    with nvml.opened("auto", HERE, library) as read:
        if read is not None:
            pytest.skip("this host has a GPU")
    options = ["sweep", "-m", "m", "-u", ELSEWHERE, "--input-data", "zero", "--nvml", "on", "-o", str(tmp_path)]
    done = CliRunner().invoke(app, options)
    assert isinstance(done.exception, PlanError)
    assert str(done.exception).startswith("nvml: ")
    assert list(tmp_path.iterdir()) == []
