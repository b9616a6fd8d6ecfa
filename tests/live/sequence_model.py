"""A stateful model: counts the steps of each sequence it serves, and refuses a step that is out of order.

Runs inside Triton's Python backend. `X` holds (stream, step) of the input file; `COUNT` answers the steps so far.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np


class TritonPythonModel:
    """What Triton's Python backend looks for in a model file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Read from the configuration where to write."""
        config = json.loads(arguments["model_config"])
        self._log = Path(config["parameters"]["log"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Write down what came, and answer the step's number."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        import triton_python_backend_utils as backend  # noqa: PLC0415 - exists inside the backend only

        values = {
            name: np.from_dlpack(backend.get_input_tensor_by_name(request, name)).ravel().tolist()
            for name in ("X", "START", "END", "READY", "CORRID")
        }
        if values["READY"][0]:  # Triton fills the slots of sequences that wait with requests of nobody
            with self._log.open("a") as file:
                step = [values[name][0] for name in ("CORRID", "START", "END")] + values["X"]
                file.write(json.dumps(step) + "\n")
        return backend.InferenceResponse([backend.Tensor("COUNT", np.array([[1]], dtype=np.int32))])
