"""A model that does next to nothing: it echoes its input, or takes it and answers with its size in bytes.

Runs inside Triton's Python backend; the configuration's parameter `answer` is `echo` or `size`.
"""

import json
from typing import Any

import numpy as np


class TritonPythonModel:
    """What Triton's Python backend looks for in a model file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Read from the configuration what to answer."""
        config = json.loads(arguments["model_config"])
        self._echoes = config["parameters"]["answer"]["string_value"] == "echo"

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        import triton_python_backend_utils as backend  # noqa: PLC0415 - exists inside the backend only

        given = backend.get_input_tensor_by_name(request, "X")
        # By DLPack: the backend's own conversion was built for numpy 1 and gives wrong data in silence under numpy 2.
        if self._echoes:
            answer = backend.Tensor.from_dlpack("Y", given.to_dlpack())
        else:
            answer = backend.Tensor("Y", np.array([np.from_dlpack(given).nbytes], dtype=np.int64))
        return backend.InferenceResponse([answer])
