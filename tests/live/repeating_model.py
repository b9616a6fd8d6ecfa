"""A decoupled model: answers a request as many times as `N` says, and fails where it says a negative number.

Runs inside Triton's Python backend.
"""

from typing import Any

import numpy as np


class TritonPythonModel:
    """What Triton's Python backend looks for in a model file."""

    def execute(self, requests: list[Any]) -> None:
        """Answer each request in full."""
        for request in requests:
            self._answer(request)

    def _answer(self, request: Any) -> None:
        import triton_python_backend_utils as backend  # noqa: PLC0415 - exists inside the backend only

        sender = request.get_response_sender()
        count = int(np.from_dlpack(backend.get_input_tensor_by_name(request, "N")).ravel()[0])
        if count < 0:
            sender.send(backend.InferenceResponse(error=backend.TritonError("asked to fail")))
        for number in range(count):
            sender.send(backend.InferenceResponse([backend.Tensor("OUT", np.array([number], dtype=np.int32))]))
        sender.send(flags=backend.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
