"""The server under test by whichever protocol its endpoint names."""

from loadgen.endpoint import Endpoint
from loadgen.server.triton import Triton
from loadgen.server.triton_http import TritonHttp

Server = Triton | TritonHttp


def client(endpoint: Endpoint) -> Server:
    """Return a client of everything but inference; use it as a context."""
    return TritonHttp(endpoint) if endpoint.http else Triton(endpoint)
