"""Write a Triton model repository that serves the stand-in for `traccc-gpu`."""

import shutil
from pathlib import Path
from types import MappingProxyType

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen.errors import PlanError
from loadgen.kserve import TensorMetadata, signature_text

MODEL = "traccc-gpu"
STAND_IN = "clusters cells on the CPU; not traccc"
SOURCE = Path(__file__).parent / "standin" / "traccc_gpu.py"

Tensors = tuple[TensorMetadata, ...]

ODD_INPUTS = (
    TensorMetadata("GEOMETRY_ID", "UINT64", (-1,)),
    TensorMetadata("FEATURES", "FP64", (-1, 5)),
)
ODD_OUTPUTS = (
    TensorMetadata("chi2", "FP32", (-1,)),
    TensorMetadata("ndf", "FP32", (-1,)),
    TensorMetadata("local_positions", "FP32", (-1, 2)),
    TensorMetadata("local_positions_lengths", "INT32", (-1,)),
    TensorMetadata("variances", "FP32", (-1, 2)),
)
ITK_INPUTS = (
    TensorMetadata("CELL_POSITIONS", "INT64", (-1, 4)),
    TensorMetadata("CELL_PROPERTIES", "FP32", (-1, 2)),
)
ITK_OUTPUTS = (
    TensorMetadata("TRK_PARAMS", "FP32", (-1, 8)),
    TensorMetadata("MEASUREMENTS", "FP32", (-1, 6)),
    TensorMetadata("COVARIANCES", "FP32", (-1, 25)),
    TensorMetadata("GEOMETRY_IDS", "INT64", (-1, 1)),
)
SIGNATURES = MappingProxyType({"odd": (ODD_INPUTS, ODD_OUTPUTS), "itk": (ITK_INPUTS, ITK_OUTPUTS)})
"""Name -> inputs and outputs, as the versions of `traccc-gpu` for these detectors declare them."""


def write_standin(root: Path, signature: str, instances: int, stretch: float = 1.0) -> Path:
    """Write the repository below `root` and return its path, to give as `--model-repository`.

    An answer takes `stretch` times as long as the work for it; what is beyond the work it waits.

    Raises:
        PlanError: the signature is not known, there is no instance, `stretch` is below 1, or `root` is not writable.
    """
    if not stretch >= 1:
        raise PlanError(f"stretch {stretch:g} of the stand-in: write 1 or more")
    if signature not in SIGNATURES:
        known = "; ".join(f"{name}: {signature_text(inputs)}" for name, (inputs, _) in SIGNATURES.items())
        raise PlanError(f"signature {signature}: is not known; write one of {known}")
    if instances < 1:
        raise PlanError(f"{instances} instances of the stand-in: write 1 or more")
    repository = root / "models"
    version = repository / MODEL / "1"
    try:
        version.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(SOURCE, version / "model.py")
        config = text_format.MessageToString(_config(signature, instances, stretch))
        (repository / MODEL / "config.pbtxt").write_text(config)
    except OSError as error:
        raise PlanError(f"{root}: cannot write a model repository there ({error.strerror})") from error
    return repository


def _config(signature: str, instances: int, stretch: float) -> model_config_pb2.ModelConfig:
    inputs, outputs = SIGNATURES[signature]
    config = model_config_pb2.ModelConfig(name=MODEL, backend="python", max_batch_size=0)
    for tensors, declared in ((inputs, config.input), (outputs, config.output)):
        for tensor in tensors:
            declared.add(name=tensor.name, data_type=f"TYPE_{tensor.datatype}", dims=tensor.shape)
    config.instance_group.add(count=instances, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU)
    config.parameters["stand_in"].string_value = STAND_IN
    if stretch != 1:
        config.parameters["stretch"].string_value = f"{stretch:g}"
    return config
