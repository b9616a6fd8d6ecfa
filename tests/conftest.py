"""Fixtures of all tests: a loop whose time is virtual, and files from the field where they are present."""

import asyncio
import os
import selectors
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

from loadgen.server import embedded

T = TypeVar("T")

# A busy machine is no fault of what is tested; how long a test may take is pytest's business.
hypothesis.settings.register_profile("loadgen", deadline=None)
hypothesis.settings.load_profile("loadgen")


class VirtualSelector(selectors.SelectSelector):
    """Never waits: it adds the time it was asked to wait to a clock of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; otherwise let `timeout` seconds pass at once."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("the loop would wait for ever: nothing is scheduled")
        if not ready and timeout:
            self.now_s += timeout
        return ready


class VirtualTime:
    """Runs a coroutine in virtual time; `now_ns` reads that time."""

    def __init__(self) -> None:
        self._selector = VirtualSelector()

    def now_ns(self) -> int:
        """Return the virtual time in nanoseconds."""
        return round(self._selector.now_s * 1e9)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run to the end."""
        loop = asyncio.SelectorEventLoop(self._selector)
        loop.time = lambda: self._selector.now_s  # type: ignore[method-assign]
        try:
            return loop.run_until_complete(main)
        finally:
            loop.close()


@pytest.fixture
def virtual_time() -> VirtualTime:
    """Return a fresh virtual clock."""
    return VirtualTime()


@pytest.fixture(scope="session")
def field_data() -> Path:
    """Return the folder of real files from the field; skip where it is absent."""
    default = Path(__file__).parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("LOADGEN_FIELD_DATA", default))
    if not folder.is_dir():
        pytest.skip("no files from the field here (set LOADGEN_FIELD_DATA to their folder)")
    return folder


@pytest.fixture(scope="session")
def triton() -> embedded.Installation:
    """Return the real Triton, unpacked once into the user's cache; skip only where it cannot run."""
    if (reason := embedded.unavailable_reason()) is not None:
        pytest.skip(reason)
    return embedded.install()
