"""The settings of a server: environment variables `VSSL_…`, which are flags of `vssl serve` too."""

import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from vssl.bundle.manifest import Precision
from vssl.errors import UsageError
from vssl.memory import cores

PREFIX = "VSSL_"

# Kubernetes sets VSSL_PORT=tcp://… where a Service is called vssl, and VSSL_GRPC_PORT where one is called vssl-grpc.
PORTS = {"port": "VSSL_PORT_HTTP", "grpc_port": "VSSL_PORT_GRPC", "metrics_port": "VSSL_PORT_METRICS"}
"""Variables that are not `VSSL_` + the field's name."""

OLD_PORTS = {"port": "VSSL_PORT", "grpc_port": "VSSL_GRPC_PORT"}
"""Their old names; a number there is read for one more release."""


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PORTS.get(field, PREFIX + field.upper())


def is_loopback(host: str) -> bool:
    """Whether a server that listens on that address can be reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Environment(PydanticBaseSettingsSource):
    """The settings that are in the environment."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """The variable's text, which pydantic reads as the field's type."""
        text = os.environ.get(variable(field_name))
        if text is None and field_name in OLD_PORTS:
            old = os.environ.get(OLD_PORTS[field_name], "")
            text = old if old.isdecimal() else None
        return text, field_name, False

    def __call__(self) -> dict[str, Any]:
        """All settings that are in the environment."""
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: text for name, text in found.items() if text is not None}


def outdated() -> Iterator[str]:
    """A line for each variable with an old name: that it is ignored, or what it is called now."""
    for field, old in OLD_PORTS.items():
        text = os.environ.get(old)
        if text is None or (variable(field) in os.environ and text.isdecimal()):
            continue
        if text.isdecimal():
            yield f"{old} is called {variable(field)} now; the old name goes with the next release"
        else:
            why = "that is Kubernetes' link to a Service, not a setting" if "://" in text else "it is no port"
            yield f"{old}={text} is passed over: {why}; the port is set by {variable(field)}"


class Settings(BaseSettings):
    """Every field is an environment variable (see `variable`) and a flag of the same name."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment."""
        return init_settings, Environment(settings_cls)

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` or `::` for every interface."""

    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 picks a free one."""

    uds: Path | None = None
    """Unix socket to listen on in place of `host` and `port`; gRPC and metrics still have their ports on `host`."""

    root_path: str = Field("", pattern="^(/[^/?#]+)*$")
    """Path under which a proxy publishes the server, `/embedder` for instance; it may pass it on or take it away."""

    trusted_proxies: str | None = None
    """Addresses and networks, separated by commas, whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed."""

    cors_origins: str | None = None
    """Origins, separated by commas, whose pages may call the server from a browser; `*` is every page. By default none
    may.
    """

    allowed_hosts: str | None = None
    """Names, separated by commas, under which galleries and their page may be asked for (`Host`), beside those of this
    machine itself; `*` is every name.
    """

    grpc_port: int | None = Field(None, ge=0, le=65535)
    """Port for gRPC; 0 picks a free one. Without it there is none."""

    grpc_idle_seconds: float = Field(300.0, gt=0, allow_inf_nan=False)
    """How long a gRPC connection without a request is kept."""

    grpc_age_seconds: float = Field(3600.0, gt=0, allow_inf_nan=False)
    """How long a gRPC connection lasts at most. Clients reconnect by themselves, and requests in flight may end."""

    grpc_streams: int = Field(100, ge=1)
    """Requests of one gRPC connection at a time; a client holds back the others."""

    metrics_port: int | None = Field(None, ge=0, le=65535)
    """Port for `/metrics`, which then is nowhere else; 0 picks a free one. Without it metrics are on `port`."""

    workers: int = Field(1, ge=1)
    """Processes that serve behind one port, each with engines of its own or all with one (`engine_process`)."""

    engine_process: bool = False
    """Hold the models in one process more, for all workers: they speak HTTP and decode, and hand it the pixels."""

    max_body_bytes: int = Field(64 * 2**20, ge=1)
    """Largest request body in bytes, and so the largest image; more is answered 413."""

    max_json_bytes: int = Field(2**20, ge=1)
    """Largest body in bytes of the routes that take neither images nor tensors; more is answered 413."""

    max_pending_bytes: int = Field(2**30, ge=1)
    """Bytes of all bodies that may be in memory at once, counted as they are announced; more is answered 429."""

    max_images: int = Field(256, ge=1)
    """Most images in one request; more is answered 413."""

    max_pixels: int = Field(64_000_000, ge=1)
    """Most pixels (width × height) of one image; more is refused by its header, before any pixel is decoded."""

    max_request_pixels: int = Field(256_000_000, ge=1)
    """Most pixels of all images of a request together, by their headers; more is answered 413."""

    max_pending_pixels: int = Field(1_000_000_000, ge=1)
    """Pixels of all requests in flight, by their images' headers; a request that finds no place is answered 429."""

    queue_images: int = Field(1024, ge=1)
    """Images that may be decoding, waiting or in the engine at once; a request that finds no place is answered 429."""

    batch_size: int = Field(32, ge=1)
    """Most images in one call of the engine."""

    max_wait_seconds: float = Field(0.0, ge=0, allow_inf_nan=False)
    """Longest time that a free engine waits for a batch to fill; 0: it never waits."""

    decode_threads: int = Field(default_factory=cores, ge=1)
    """Threads that decode images; by default one for each core at hand, shared out among the workers."""

    engine_threads: int = Field(0, ge=0)
    """Threads inside one call of the engine; 0 takes all cores, but half of them for the batches of a small model (0.5
    ms an image) that are not full; and several workers share the cores out."""

    small_model: bool | None = None
    """Whether a batch that is not full gets half of the cores only, as suits a model that is small beside the rest of
    a request's work. By default a timing at the start decides, and a line on standard error says how."""

    precision: Precision | None = None
    """Which of the bundle's models to run; by default fp16 on a GPU, where the bundle has it, else fp32."""

    cache_bytes: int = Field(0, ge=0)
    """Memory for answers by the content of the image file, for each model; 0 keeps none."""

    deadline_seconds: float = Field(30.0, gt=0, allow_inf_nan=False)
    """Longest time from the whole body to the answer; more is answered 504. When the server is told to stop,
    requests in flight have this long to finish."""

    receive_seconds: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Longest time in which a request's head may come, and then its body; more is answered 408."""

    tls_certificate: Path | None = None
    """PEM file with the certificate and its chain; with it the server speaks TLS, over gRPC too. Needs `tls_key`."""

    tls_key: Path | None = None
    """PEM file with the certificate's private key, not encrypted."""

    api_keys_file: Path | None = None
    """File with the API keys, one a line; health and metrics answer without one. By default all do."""

    admin_keys_file: Path | None = None
    """File with the keys that may load and unload models, one a line; without it nobody may."""

    model_root: Path | None = None
    """Folder of the bundles that may be loaded while the server runs; without it only those named at the start."""

    galleries: str | None = None
    """Where galleries lie: a folder, `s3://…`, `postgresql://…` or `qdrant://…`. Without it there are none."""

    ui: bool = False
    """Show the galleries in a web page, at `/ui/`."""

    snapshot_root: Path | None = None
    """Folder under which snapshots of galleries may be written and read; without it none may."""

    log_requests: bool = False
    """Write one line of JSON to standard error for each request."""

    log_health: bool = True
    """Of health and metrics too."""

    @model_validator(mode="after")
    def _a_certificate_has_its_key(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("--tls-certificate and --tls-key belong together: name both or none")
        return self

    @property
    def several(self) -> bool:
        """Whether more than one process serves."""
        return self.workers > 1 or self.engine_process

    @model_validator(mode="after")
    def _what_several_processes_cant_have(self) -> Self:
        flag = "--engine-process" if self.engine_process else "--workers"
        if self.several and self.admin_keys_file is not None:
            raise ValueError(f"{flag} and --admin-keys-file don't go together: a load would reach one process only")
        if self.several and self.uds is not None:
            raise ValueError(f"{flag} and --uds don't go together: the kernel deals out connections to ports alone")
        return self

    @model_validator(mode="after")
    def _one_process_writes_galleries(self) -> Self:
        if self.workers > 1 and self.galleries is not None:
            raise ValueError(
                "--workers and --galleries don't go together: each worker would keep the vectors in memory, and their "
                "writes would be in each other's way; run several servers with a PostgreSQL of galleries instead"
            )
        return self

    @model_validator(mode="after")
    def _a_page_knows_its_hosts(self) -> Self:
        if self.ui and self.allowed_hosts is None and self.uds is None and not is_loopback(self.host):
            raise ValueError(
                f"--ui on {self.host} needs --allowed-hosts: the names under which browsers may ask for the page, so "
                "that no other site's name can be made to point here"
            )
        return self

    @model_validator(mode="after")
    def _a_full_body_fits(self) -> Self:
        if self.max_body_bytes > self.max_pending_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) is over max_pending_bytes ({self.max_pending_bytes}): "
                "a body of that length would never be admitted"
            )
        return self

    @model_validator(mode="after")
    def _a_full_request_fits(self) -> Self:
        if self.max_images > self.queue_images:
            raise ValueError(
                f"max_images ({self.max_images}) is over queue_images ({self.queue_images}): "
                "a request of that many images would never find a place"
            )
        if not self.max_pixels <= self.max_request_pixels <= self.max_pending_pixels:
            raise ValueError(
                f"max_pixels ({self.max_pixels}), max_request_pixels ({self.max_request_pixels}) and "
                f"max_pending_pixels ({self.max_pending_pixels}) must rise in that order: else an image or a request "
                "would never find a place"
            )
        return self


def load_settings(flags: Mapping[str, Any]) -> Settings:
    """Flags that are not None, over the environment, over the defaults.

    Raises:
        UsageError: a value is not valid; the message names its flag and variable.
    """
    try:
        return Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        raise UsageError("; ".join(_describe(problem["loc"], problem["msg"]) for problem in error.errors())) from None


def _describe(place: tuple[int | str, ...], message: str) -> str:
    if not place:
        return message
    name = str(place[0]).lower()
    return f"--{name.replace('_', '-')} ({variable(name)}): {message}"
