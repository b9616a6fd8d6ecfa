"""What a running server says of a model: for commands that check files against it, outside of any measurement."""

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadgen import kserve, proxies
from loadgen.errors import TargetError
from loadgen.kserve import ModelMetadata

TIMEOUT_S = 10.0


def model(address: str, name: str, version: str = "") -> ModelMetadata:
    """Ask the server at `address` (host:port of its gRPC service) for a model's declaration.

    Raises:
        TargetError: it does not answer, or does not know the model.
    """
    with grpc.insecure_channel(address, options=proxies.channel_options(address)) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            message = stub.ModelMetadata(
                service_pb2.ModelMetadataRequest(name=name, version=version), timeout=TIMEOUT_S
            )
            config = stub.ModelConfig(service_pb2.ModelConfigRequest(name=name, version=version), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise TargetError(f"{address}: model {name}: {error.details()}; check -u and -m") from error
    return kserve.model_metadata(message, kserve.as_json(config.config))
