"""The Open Inference Protocol v2 and the standard health service over gRPC."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Any

import grpc
from google.protobuf import json_format
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from vssl.errors import VsslError
from vssl_server.access.keys import ADMIN, EMBED, Keys
from vssl_server.access.middleware import name_of, record
from vssl_server.grpc.limits import ReceiveLimit, channel_options
from vssl_server.inference_v2.protocol import (
    INPUT,
    NO_SHARED_MEMORY,
    SERVER,
    Catalogue,
    arrays,
    check_parameters,
    requested_outputs,
)
from vssl_server.models.deadline import from_microseconds, receiving, shortest, within_deadline
from vssl_server.models.repository import Parameters, Repository
from vssl_server.observed import metrics
from vssl_server.observed.request_log import FACTS, Entry, Facts
from vssl_server.observed.tracing import called
from vssl_server.settings import Settings
from vssl_server.wire.errors import REQUEST_ID, ApiError
from vssl_server.wire.json_body import MANY
from vssl_server.wire.tensors import Tensor, invalid
from vssl_server.wire.timing import server_timing
from vssl_server.wire.tls import Certificate

SERVICE = "inference.GRPCInferenceService"
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What the statuses of HTTP are called here; the others are INVALID_ARGUMENT."""

OPEN_METHODS = ("ServerLive", "ServerReady")
"""These answer without a key, as the health service does."""

ADMIN_METHODS = ("RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload")
SCOPES = {"ModelInfer": EMBED} | dict.fromkeys(ADMIN_METHODS, ADMIN)
"""What a key must be for; where nothing stands, any key will do."""

WATCH_SECONDS = 1.0
"""Between two looks at the state on behalf of a client that watches it."""

WATCHES = 1000
"""Most clients that watch it at a time; they need no key."""

Message = Any  # the stubs have no types
Context = Any
Handler = Callable[[Any, Message, Context], Awaitable[Message]]

logger = logging.getLogger("vssl.server")


async def start(
    catalogue: Catalogue, keys: Keys, settings: Settings, repository: Repository | None = None
) -> tuple[grpc.aio.Server, int]:
    """Listen; the running server and its port. Without `repository` models can't be loaded or unloaded.

    Raises:
        VsslError: the address can't be listened on.
    """
    host, port = settings.host, settings.grpc_port

    def refused(method: str, metadata: Mapping[str, str]) -> bool:
        try:
            check_key(keys, method, metadata)
        except ApiError:
            return True
        return False

    server = grpc.aio.server(
        interceptors=[ReceiveLimit(catalogue.registry, refused)], options=channel_options(settings)
    )
    service = InferenceService(catalogue, keys)
    if repository is not None:
        service = Administration(catalogue, keys, repository)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(service, server)
    health_pb2_grpc.add_HealthServicer_to_server(Health(catalogue), server)
    try:
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if settings.tls_certificate is None or settings.tls_key is None:
            found = server.add_insecure_port(address)
        else:
            found = server.add_secure_port(address, _credentials(settings))
    except RuntimeError as error:
        raise VsslError(f"can't listen for gRPC on {host}, port {port}; choose with --host and --grpc-port") from error
    await server.start()
    return server, found


def _credentials(settings: Settings) -> grpc.ServerCredentials:
    """Those of the certificate as it is when a connection begins."""
    certificate = Certificate(settings)

    def configuration() -> grpc.ServerCertificateConfiguration:
        assert settings.tls_certificate is not None
        assert settings.tls_key is not None
        pair = (settings.tls_key.read_bytes(), settings.tls_certificate.read_bytes())
        return grpc.ssl_server_certificate_configuration([pair])

    return grpc.dynamic_ssl_server_credentials(
        configuration(), lambda: configuration() if certificate.changed() else None
    )


def check_key(keys: Keys, path: str, metadata: Mapping[str, str]) -> str | None:
    """The name of the key that a call came with; ApiError where it needs another one."""
    _, service, method = path.split("/")
    if service != SERVICE or method in OPEN_METHODS:
        return None
    return keys.check(metadata.get("authorization"), SCOPES.get(method))


def rpc(handler: Handler) -> Handler:
    """Check the key, count, time and log a call, and turn its errors into gRPC's."""
    path = f"/{SERVICE}/{handler.__name__}"

    @wraps(handler)
    async def call(self: "InferenceService", request: Message, context: Context) -> Message:
        started, status, message, key = time.monotonic(), grpc.StatusCode.CANCELLED, "", None
        FACTS.set(facts := Facts())
        metadata = dict(context.invocation_metadata() or ())
        request_id = name_of(metadata.get(REQUEST_ID))
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        try:
            key = check_key(self.keys, path, metadata)
            with nullcontext() if handler.__name__ in OPEN_METHODS else called(path, metadata):
                answer = await handler(self, request, context)
            status = grpc.StatusCode.OK
            return answer
        except ApiError as error:
            metrics.REFUSALS.labels(error.code).inc()
            status, message = CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT), error.message
        except Exception as error:
            metrics.REFUSALS.labels("internal_error").inc()
            logger.error("%s failed", path, exc_info=error)
            status, message = grpc.StatusCode.INTERNAL, "the server failed on this request; its log says why"
        finally:
            record(path, status.name, started)
            settings = self.registry.settings
            if settings.log_requests and (settings.log_health or handler.__name__ not in OPEN_METHODS):
                client, parent = context.peer(), metadata.get("traceparent")
                size = request.ByteSize()
                Entry(request_id, "gRPC", path, path, status.name, started, size, client, key, facts, parent).write()
        return await context.abort(status, message)

    return call


def unsupported(name: str) -> Handler:
    """A method of Triton's that this server has not."""
    why = NO_SHARED_MEMORY if "SharedMemory" in name else f"{name} is not supported"

    async def call(self: "InferenceService", request: Message, context: Context) -> Message:
        return await context.abort(grpc.StatusCode.UNIMPLEMENTED, why)

    return call


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
        async with receiving(self.registry):
            outputs = _outputs(request)
        with self.registry.pending.request() as held:
            held.reach(request.ByteSize())
            timeout = shortest(context.time_remaining(), _timeout(request))
            async with within_deadline(self.registry.settings.deadline_seconds, timeout, INPUT):
                result = await model.infer(_tensors(request))
        with model.model.metrics.encode_seconds.time():
            answer = service_pb2.ModelInferResponse(model_name=model.name, model_version=model.version, id=request.id)
            for key, value in model.parameters.items():
                answer.parameters[key].string_param = value
            for name, array in arrays(outputs, result):
                answer.outputs.add(name=name, datatype="FP32", shape=array.shape)
                answer.raw_output_contents.append(array.tobytes())
        spent = [
            (name.lower(), value)
            for name, value in server_timing(started, result.queue_seconds, result.inference_seconds).items()
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


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """`grpc.health.v1.Health` for the whole server, and for the inference service by its name."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.registry = catalogue.registry
        self._watches = 0

    async def Check(self, request: Message, context: Context) -> Message:  # noqa: N802
        """SERVING while some model can answer."""
        if request.service not in ("", SERVICE):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service[:100]!r}; there is {SERVICE}")
        return self._status()

    async def Watch(self, request: Message, context: Context) -> AsyncIterator[Message]:  # noqa: N802
        """The status now and whenever it changes, until the server stops."""
        if self._watches >= WATCHES:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{WATCHES} clients watch already; ask with Check")
        self._watches += 1
        told = None
        try:
            while True:
                last = self.registry.draining
                if (status := self._status()) != told:
                    yield status
                    told = status
                if last:
                    return
                await asyncio.sleep(WATCH_SECONDS)
        finally:
            self._watches -= 1

    def _status(self) -> Message:
        serving = "SERVING" if self.registry.state == "ready" else "NOT_SERVING"
        return health_pb2.HealthCheckResponse(status=serving)


def _timeout(request: Message) -> float | None:
    if "timeout" not in request.parameters:
        return None
    value = request.parameters["timeout"]
    return from_microseconds(getattr(value, value.WhichOneof("parameter_choice") or "int64_param"))


def _outputs(request: Message) -> Sequence[str]:
    if len(request.outputs) > MANY:
        raise invalid(f"over {MANY} outputs")
    for output in request.outputs:
        check_parameters(output.name, output.parameters)
    return requested_outputs([output.name for output in request.outputs])


def _tensors(request: Message) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs")
    if len(request.inputs) > MANY or any(len(given.shape) > MANY for given in request.inputs):
        raise invalid(f"over {MANY} inputs, or an input of over {MANY} dimensions")
    tensors = []
    for index, given in enumerate(request.inputs):
        check_parameters(given.name, given.parameters)
        values = given.contents.bytes_contents if given.datatype == "BYTES" else given.contents.uint_contents
        data = raw[index] if raw else values
        tensors.append(Tensor(given.name, given.datatype, list(given.shape), data))
    return tensors
