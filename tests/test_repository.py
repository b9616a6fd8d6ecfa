"""The stand-in's model repository, read back as Triton reads it."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen.errors import PlanError
from loadgen.kserve import as_json, instances
from loadgen.server import repository
from loadgen.server.standin import traccc_gpu


def read_config(models: Path) -> model_config_pb2.ModelConfig:
    text = (models / "traccc-gpu" / "config.pbtxt").read_text()
    return text_format.Parse(text, model_config_pb2.ModelConfig())


@pytest.mark.parametrize("signature", ["odd", "itk"])
def test_config_declares_the_signature(tmp_path: Path, signature: str) -> None:
    """The written file holds every tensor with its type and shape, no batching, and says it is a stand-in."""
    config = read_config(repository.write_standin(tmp_path, signature, 3))
    declared = tuple(
        tuple((t.name, model_config_pb2.DataType.Name(t.data_type), tuple(t.dims)) for t in tensors)
        for tensors in (config.input, config.output)
    )
    expected = tuple(
        tuple((t.name, f"TYPE_{t.datatype}", t.shape) for t in tensors)
        for tensors in repository.SIGNATURES[signature]
    )
    assert declared == expected
    assert (config.name, config.backend, config.max_batch_size) == ("traccc-gpu", "python", 0)
    assert config.parameters["stand_in"].string_value == "clusters cells on the CPU; not traccc"
    assert instances(as_json(config)) == 3
    assert "stretch" not in config.parameters
    stretched = read_config(repository.write_standin(tmp_path, signature, 3, stretch=2.5))
    assert stretched.parameters["stretch"].string_value == "2.5"


@pytest.mark.parametrize("signature", ["odd", "itk"])
def test_model_answers_what_the_config_declares(tmp_path: Path, signature: str) -> None:
    """The model file beside the config is the stand-in, and it knows how to answer these inputs."""
    models = repository.write_standin(tmp_path, signature, 1)
    inputs, _ = repository.SIGNATURES[signature]
    assert frozenset(tensor.name for tensor in inputs) in traccc_gpu.ANSWERS
    assert (models / "traccc-gpu/1/model.py").read_bytes() == Path(traccc_gpu.__file__).read_bytes()


def test_writing_again_replaces(tmp_path: Path) -> None:
    """A second repository in the same place holds the new instance count."""
    repository.write_standin(tmp_path, "odd", 1)
    assert read_config(repository.write_standin(tmp_path, "itk", 4)).instance_group[0].count == 4


def test_bad_requests_are_plan_errors(tmp_path: Path) -> None:
    """An unknown signature is answered with the known ones; no instance and no folder are errors too."""
    with pytest.raises(PlanError, match=r"tml: is not known; write one of odd: GEOMETRY_ID UINT64\[-1\]"):
        repository.write_standin(tmp_path, "tml", 1)
    with pytest.raises(PlanError, match="0 instances"):
        repository.write_standin(tmp_path, "odd", 0)
    with pytest.raises(PlanError, match=r"stretch 0\.5 of the stand-in: write 1 or more"):
        repository.write_standin(tmp_path, "odd", 1, stretch=0.5)
    (tmp_path / "file").touch()
    with pytest.raises(PlanError, match="cannot write a model repository"):
        repository.write_standin(tmp_path / "file", "odd", 1)
