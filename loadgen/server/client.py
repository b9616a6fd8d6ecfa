"""The server under test by whichever protocol its endpoint names."""

import contextlib

from loadgen.endpoint import Endpoint
from loadgen.server.triton import Triton
from loadgen.server.triton_http import TritonHttp

Server = Triton | TritonHttp


async def client(stack: contextlib.AsyncExitStack, endpoint: Endpoint) -> Server:
    """Return a client of everything but inference, open for as long as `stack` is."""
    if endpoint.http:
        return await stack.enter_async_context(TritonHttp(endpoint))
    return await stack.enter_async_context(Triton(endpoint))
