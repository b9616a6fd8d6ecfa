"""Load generator for NVIDIA Triton; `sweep` and `sweep_async` do in a script what the command line does."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen.api import sweep, sweep_async
    from loadgen.plan import Synthetic

__all__ = ["Synthetic", "sweep", "sweep_async"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any of the public names
    """Import a public name on first use: a worker process must not pay for tables and charts."""
    if name == "Synthetic":
        from loadgen import plan  # noqa: PLC0415

        return plan.Synthetic
    if name in __all__:
        from loadgen import api  # noqa: PLC0415

        return getattr(api, name)
    raise AttributeError(f"module 'loadgen' has no attribute {name!r}")
