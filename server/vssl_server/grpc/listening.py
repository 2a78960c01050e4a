"""The gRPC server: its port, its certificate, and the services on it."""

from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2_grpc
from tritonclient.grpc import service_pb2_grpc

from vssl.errors import VsslError
from vssl_server.access.keys import Keys
from vssl_server.grpc.calls import check_key
from vssl_server.grpc.health import Health
from vssl_server.grpc.limits import ReceiveLimit, channel_options
from vssl_server.grpc.service import Administration, InferenceService
from vssl_server.inference_v2.protocol import Catalogue
from vssl_server.models.repository import Repository
from vssl_server.settings import Settings
from vssl_server.wire.errors import ApiError
from vssl_server.wire.tls import Certificate


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
    health_pb2_grpc.add_HealthServicer_to_server(Health(catalogue.registry), server)
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
