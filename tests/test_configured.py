"""Copies of a model repository with other instances: the configuration that Triton will read."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen.errors import PlanError
from loadgen.server import configured

GROUP = model_config_pb2.ModelInstanceGroup


def parsed(text: str) -> model_config_pb2.ModelConfig:
    """Return a configuration from its text."""
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_instances_and_gpus_are_those_asked_for() -> None:
    """Count, kind and GPUs are replaced, whatever was there; the rest of the group, and of the model, is kept."""
    before = parsed('name: "m" backend: "b" instance_group { count: 9 kind: KIND_GPU gpus: [7] profile: "p" }')
    on_gpus = configured.with_instances(before, 2, (0, 3)).instance_group[0]
    assert (on_gpus.count, on_gpus.kind, list(on_gpus.gpus)) == (2, GROUP.KIND_GPU, [0, 3])
    assert list(on_gpus.profile) == ["p"]
    on_cpu = configured.with_instances(before, 4, ()).instance_group[0]
    assert (on_cpu.count, on_cpu.kind, list(on_cpu.gpus)) == (4, GROUP.KIND_CPU, [])
    assert before.instance_group[0].count == 9
    assert configured.with_instances(before, 1, ()).backend == "b"


def test_a_model_without_a_group_gets_one() -> None:
    """Triton's default of one instance a GPU is not what was asked for."""
    (group,) = configured.with_instances(parsed('name: "m"'), 3, (1,)).instance_group
    assert (group.count, list(group.gpus)) == (3, [1])


def test_several_groups_and_what_is_no_configuration_are_refused(tmp_path: Path) -> None:
    """One count cannot stand for two groups; a file with unknown fields is not rewritten without them."""
    with pytest.raises(PlanError, match="m: has 2 instance groups"):
        configured.with_instances(parsed('name: "m" instance_group { count: 1 } instance_group { count: 2 }'), 1, ())
    (tmp_path / "config.pbtxt").write_text("name: m unheard_of: 3")
    with pytest.raises(PlanError, match="is not a model configuration"):
        configured.read_config(tmp_path / "config.pbtxt")
    with pytest.raises(PlanError, match="cannot read the model's configuration"):
        configured.read_config(tmp_path / "none")
