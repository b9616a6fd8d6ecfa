"""A server of our own for those who have none at hand: the stand-in model on a real Triton, or the stub."""

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from loadgen.errors import PlanError


@asynccontextmanager
async def own_server(  # noqa: PLR0913, PLR0917 - each is one option
    signature: str, instances: int, log: Path, stub: bool, announce: Callable[[str], None], stretch: float = 1.0
) -> AsyncIterator[Any]:
    """Serve the stand-in until the context is left; yields its addresses. `announce` hears what it is.

    Raises:
        PlanError: the signature is not known, or the stub is to be stretched.
        TargetError: it does not come up.
    """
    from loadgen.server import embedded, launch  # noqa: PLC0415

    if signature not in {"odd", "itk"}:
        raise PlanError(f"--signature {signature}: is not known; write odd or itk")
    reason = "asked for with --stub" if stub else embedded.unavailable_reason()
    if reason is not None:
        if stretch != 1:
            raise PlanError(f"--stretch {stretch:g}: is for the stand-in on Triton; the stub answers after set times")
        announce(f"SIMULATED: no Triton here ({reason}): a stub answers after set times")
        async with launch.serve_stub(signature=signature, instances=instances, log=log) as server:
            yield server
        return
    with tempfile.TemporaryDirectory() as folder:
        announce("starting Triton with the stand-in model (it is downloaded the first time)")
        async with launch.serve_standin(
            signature=signature, instances=instances, stretch=stretch, directory=Path(folder), log=log
        ) as server:
            yield server
