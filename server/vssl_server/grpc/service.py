"""The methods of the Open Inference Protocol v2 over gRPC."""

import time

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from vssl_server.access.keys import Keys
from vssl_server.grpc.calls import Context, Message, rpc, unsupported
from vssl_server.grpc.messages import outputs_of, tensors_of, timeout_of
from vssl_server.inference_v2.protocol import INPUT, SERVER, Catalogue, arrays
from vssl_server.models.deadline import Receiving, WithinDeadline, shortest
from vssl_server.models.repository import Parameters, Repository
from vssl_server.wire.errors import ApiError
from vssl_server.wire.timing import server_timing


class InferenceService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Each method is one of the protocol; the rest of Triton's, shared memory for instance, are UNIMPLEMENTED."""

    def __init__(self, catalogue: Catalogue, keys: Keys) -> None:
        self.catalogue, self.registry, self.keys = catalogue, catalogue.registry, keys

    @rpc
    async def ServerLive(self, request: Message, context: Context) -> Message:  # noqa: N802
        """The process is alive."""
        return service_pb2.ServerLiveResponse(live=True)

    @rpc
    async def ServerReady(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Whether some model can answer."""
        return service_pb2.ServerReadyResponse(ready=self.registry.state == "ready")

    @rpc
    async def ServerMetadata(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Name and version of the server, and the extensions that it knows."""
        return service_pb2.ServerMetadataResponse(**SERVER)

    @rpc
    async def ModelReady(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Whether this model can answer; one that is not there can't."""
        try:
            ready = self.catalogue.ready(request.name, request.version)
        except ApiError:
            ready = False
        return service_pb2.ModelReadyResponse(ready=ready)

    @rpc
    async def ModelMetadata(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Inputs and outputs of a model."""
        model = self.catalogue.find(request.name, request.version)
        return service_pb2.ModelMetadataResponse(**model.metadata())

    @rpc
    async def ModelConfig(self, request: Message, context: Context) -> Message:  # noqa: N802
        """The model's configuration."""
        model = self.catalogue.find(request.name, request.version)
        config = json_format.ParseDict(model.config(), model_config_pb2.ModelConfig())
        return service_pb2.ModelConfigResponse(config=config)

    @rpc
    async def ModelStatistics(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Counts and times of one model, or of all where the request names none."""
        one = request.name and self.catalogue.find(request.name, request.version)
        stats = [model.statistics() for model in ([one] if one else self.catalogue.models)]
        return json_format.ParseDict({"model_stats": stats}, service_pb2.ModelStatisticsResponse())

    @rpc
    async def ModelInfer(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Embed the images of one tensor: pixels for `NAME`, encoded images for `NAME_image`."""
        started = time.monotonic()
        model = self.catalogue.find(request.model_name, request.model_version)
        async with Receiving(self.registry):
            outputs = outputs_of(request)
        with self.registry.pending.request() as held:
            held.reach(request.ByteSize())
            timeout = shortest(context.time_remaining(), timeout_of(request))
            async with WithinDeadline(self.registry.settings.deadline_seconds, timeout, INPUT):
                result = await model.infer(tensors_of(request))
        with model.model.metrics.encode_seconds.time():
            answer = service_pb2.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
            for key, value in model.parameters.items():
                answer.parameters[key].string_param = value
            for name, array in arrays(outputs, result):
                answer.outputs.add(name=name, datatype="FP32", shape=array.shape)
                answer.raw_output_contents.append(array.tobytes())
        spent = [
            (name.lower(), value)
            for name, value in server_timing(
                started, queue=result.queue_seconds, inference=result.inference_seconds
            ).items()
        ]
        context.set_trailing_metadata((*context.trailing_metadata(), *spent))
        return answer


for _name in vars(service_pb2_grpc.GRPCInferenceServiceServicer):
    if not _name.startswith("_") and _name not in vars(InferenceService):
        setattr(InferenceService, _name, unsupported(_name))


class Administration(InferenceService):
    """With Triton's repository extension: what is served can be changed."""

    def __init__(self, catalogue: Catalogue, keys: Keys, repository: Repository) -> None:
        super().__init__(catalogue, keys)
        self.repository = repository

    @rpc
    async def RepositoryIndex(self, request: Message, context: Context) -> Message:  # noqa: N802
        """The served models."""
        return service_pb2.RepositoryIndexResponse(models=self.repository.index(request.ready))

    @rpc
    async def RepositoryModelLoad(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Load a bundle, or load a served model again; the parameter `bundle` is a path on the server."""
        given = request.parameters["bundle"].string_param if "bundle" in request.parameters else None
        await self.repository.load(request.model_name, Parameters(bundle=given).bundle)
        return service_pb2.RepositoryModelLoadResponse()

    @rpc
    async def RepositoryModelUnload(self, request: Message, context: Context) -> Message:  # noqa: N802
        """Serve a model no more; what it has begun is answered."""
        await self.repository.unload(request.model_name)
        return service_pb2.RepositoryModelUnloadResponse()
