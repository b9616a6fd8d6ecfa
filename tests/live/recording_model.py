"""A model that writes down what reaches it: one line a request, each input's datatype, shape and digest of its bytes.

Runs inside Triton's Python backend; the configuration's parameter `digests` names the file to append to.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


class TritonPythonModel:
    """What Triton's Python backend looks for in a model file."""

    def initialize(self, arguments: dict[str, str]) -> None:
        """Read from the configuration which inputs to expect and where to write."""
        config = json.loads(arguments["model_config"])
        self._datatypes = {each["name"]: each["data_type"].removeprefix("TYPE_") for each in config["input"]}
        self._digests = Path(config["parameters"]["digests"]["string_value"])

    def execute(self, requests: list[Any]) -> list[Any]:
        """Record each request, then answer it with a single 0."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        import triton_python_backend_utils as backend  # noqa: PLC0415 - exists inside the backend only

        received = {
            name: described(backend.get_input_tensor_by_name(request, name), datatype)
            for name, datatype in self._datatypes.items()
        }
        with self._digests.open("a") as file:
            file.write(json.dumps(received, sort_keys=True) + "\n")
        return backend.InferenceResponse([backend.Tensor("ANSWER", np.zeros(1, dtype=np.int32))])


def described(tensor: Any, datatype: str) -> list[Any]:
    """Return datatype, shape and SHA-256 of the raw content; of strings, each behind its length in four bytes."""
    if datatype == "STRING":
        strings = tensor.as_numpy()
        raw = b"".join(len(each).to_bytes(4, "little") + each for each in strings.ravel().tolist())
        return [datatype, list(strings.shape), hashlib.sha256(raw).hexdigest()]
    # The backend was built for numpy 1: under numpy 2 its own conversion gives wrong data in silence, and ends the
    # process for BYTES, which DLPack does not know: those need numpy 1.
    data = np.from_dlpack(tensor)
    return [datatype, list(data.shape), hashlib.sha256(data.tobytes()).hexdigest()]
