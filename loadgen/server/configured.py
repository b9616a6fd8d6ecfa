"""A copy of a model repository in which one model has so many instances on these GPUs; the original is left alone."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from loadgen.errors import PlanError

CONFIG = "config.pbtxt"


def copy_with_instances(repository: Path, into: Path, model: str, instances: int, gpus: Sequence[int]) -> Path:
    """Copy every model of a repository into `into` and return it, with `instances` of `model` on each GPU given.

    Without GPUs the instances are on the CPU. Files are linked where the disk can, so that large ones cost nothing;
    only the configuration of `model` is written anew, with its other fields as they were.

    Raises:
        PlanError: there is no such model, its configuration cannot be read, or `into` cannot be written.
    """
    config = read_config(repository / model / CONFIG)
    into.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copytree(repository, into, copy_function=_linked, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise PlanError(f"{into}: cannot copy {repository} there: {error}") from error
    written = into / model / CONFIG
    written.unlink()
    written.write_text(text_format.MessageToString(with_instances(config, instances, gpus)))
    return into


def read_config(path: Path) -> model_config_pb2.ModelConfig:
    """Read a model's configuration.

    Raises:
        PlanError: it is missing, or is no configuration that we know every field of.
    """
    try:
        return text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except OSError as error:
        raise PlanError(f"{path}: cannot read the model's configuration: {error.strerror}") from error
    except (text_format.ParseError, UnicodeDecodeError) as error:
        words = " ".join(str(error).split())
        raise PlanError(f"{path}: is not a model configuration: {words}") from error


def with_instances(
    config: model_config_pb2.ModelConfig, instances: int, gpus: Sequence[int]
) -> model_config_pb2.ModelConfig:
    """Return a configuration with one instance group in place of its own; profiles and rate limits of it are kept.

    Raises:
        PlanError: the model has several groups, which one count cannot stand for.
    """
    groups = config.instance_group
    if len(groups) > 1:
        raise PlanError(f"{config.name}: has {len(groups)} instance groups; leave one in its {CONFIG}")
    made = model_config_pb2.ModelConfig()
    made.CopyFrom(config)
    group = made.instance_group[0] if groups else made.instance_group.add()
    kinds = model_config_pb2.ModelInstanceGroup
    group.count, group.kind = instances, kinds.KIND_GPU if gpus else kinds.KIND_CPU
    del group.gpus[:]
    group.gpus.extend(gpus)
    return made


def _linked(source: str, target: str) -> None:
    """Link a file, or copy it where it cannot be linked."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
