"""Answers what it was sent, a little later. Runs inside Triton's Python backend."""

import time
from typing import Any


class TritonPythonModel:
    """What Triton's Python backend looks for in a model file."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        import triton_python_backend_utils as backend  # noqa: PLC0415 - exists inside the backend only

        time.sleep(0.003)
        # By DLPack: the backend's own conversion was built for numpy 1.
        given = backend.get_input_tensor_by_name(request, "X")
        return backend.InferenceResponse([backend.Tensor.from_dlpack("Y", given.to_dlpack())])
