"""`vssl serve`. Its one function is long because each setting is a flag."""

from pathlib import Path
from typing import Annotated

import typer

from vssl.cli import echo


def serve(
    bundles: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Bundles: folders, .zip files, s3://…, builtin:tiny; by default the one that comes with vssl."
        ),
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, 0 for a free one (8000).")] = None,
    uds: Annotated[Path | None, typer.Option(help="Unix socket in place of host and port (none).")] = None,
    root_path: Annotated[str | None, typer.Option(help="Path under which a proxy publishes the server (none).")] = None,
    trusted_proxies: Annotated[str | None, typer.Option(help="Whose X-Forwarded-For is believed (none).")] = None,
    cors_origins: Annotated[str | None, typer.Option(help="Origins whose pages may ask (none).")] = None,
    allowed_hosts: Annotated[str | None, typer.Option(help="Names of this server for galleries (none).")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port for gRPC, 0 for a free one (off).")] = None,
    grpc_idle_seconds: Annotated[
        float | None, typer.Option(help="Longest time of a gRPC connection without a request (300).")
    ] = None,
    grpc_age_seconds: Annotated[float | None, typer.Option(help="Longest time of a gRPC connection (3600).")] = None,
    grpc_streams: Annotated[int | None, typer.Option(help="Requests of a gRPC connection at a time (100).")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port for /metrics alone, 0 for a free one (off).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes behind the port (1).")] = None,
    engine_process: Annotated[
        bool | None, typer.Option("--engine-process", help="One process more, which holds the models (off).")
    ] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Largest request body (67108864).")] = None,
    max_json_bytes: Annotated[
        int | None, typer.Option(help="Largest body of a request without images or tensors (1048576).")
    ] = None,
    max_pending_bytes: Annotated[
        int | None, typer.Option(help="Bytes of all bodies in memory at once (1073741824).")
    ] = None,
    max_images: Annotated[int | None, typer.Option(help="Most images in one request (256).")] = None,
    max_pixels: Annotated[int | None, typer.Option(help="Most pixels of one image (64000000).")] = None,
    max_request_pixels: Annotated[int | None, typer.Option(help="Most pixels of one request (256000000).")] = None,
    max_pending_pixels: Annotated[
        int | None, typer.Option(help="Most pixels of all requests in flight (1000000000).")
    ] = None,
    queue_images: Annotated[int | None, typer.Option(help="Images in the server at once (1024).")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Most images in one call of the engine (32).")] = None,
    max_wait_seconds: Annotated[
        float | None, typer.Option(help="Longest time that a free engine waits for a batch to fill (0).")
    ] = None,
    decode_threads: Annotated[int | None, typer.Option(help="Threads that decode images (one a core).")] = None,
    engine_threads: Annotated[
        int | None, typer.Option(help="Threads in one call of the engine (by the model).")
    ] = None,
    small_model: Annotated[
        bool | None, typer.Option(help="Half of the cores for batches that are not full (by a timing).")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32, fp16 or int8 (by the provider).")] = None,
    cache_bytes: Annotated[
        int | None, typer.Option(help="Bytes of memory for answers by an image's content (0).")
    ] = None,
    deadline_seconds: Annotated[float | None, typer.Option(help="Longest time to an answer (30).")] = None,
    receive_seconds: Annotated[float | None, typer.Option(help="Longest time for a head, and a body (60).")] = None,
    tls_certificate: Annotated[
        Path | None, typer.Option(help="PEM file; with it the server speaks TLS (none).")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file with its key (none).")] = None,
    api_keys_file: Annotated[Path | None, typer.Option(help="API keys, one a line (none).")] = None,
    admin_keys_file: Annotated[Path | None, typer.Option(help="Keys that may load models, one a line (none).")] = None,
    model_root: Annotated[Path | None, typer.Option(help="Folder of bundles that may be loaded (none).")] = None,
    galleries: Annotated[
        str | None, typer.Option(help="Where galleries lie: folder, s3://, postgresql:// (none).")
    ] = None,
    ui: Annotated[bool | None, typer.Option("--ui/--no-ui", help="Show galleries in a page at /ui/ (off).")] = None,
    snapshot_root: Annotated[Path | None, typer.Option(help="Folder of the snapshots of galleries (none).")] = None,
    log_requests: Annotated[bool | None, typer.Option(help="A line of JSON for each request (off).")] = None,
    log_health: Annotated[bool | None, typer.Option(help="Of health and metrics too (on).")] = None,
) -> None:
    """Serve bundles over HTTP, and gRPC. Each flag is also an environment variable: --batch-size is VSSL_BATCH_SIZE,
    --port, --grpc-port and --metrics-port are VSSL_PORT_HTTP, VSSL_PORT_GRPC and VSSL_PORT_METRICS.
    """
    flags = {name: value for name, value in locals().items() if name != "bundles"}
    from vssl.bundle.default import located
    from vssl_server.settings import load_settings, outdated

    settings = load_settings(flags)
    for line in outdated():
        typer.echo(f"vssl: {line}", err=True)
    if settings.several:
        from vssl_server.process.workers import run_workers as run
    else:
        from vssl_server.process.serve import run
    run([located(bundle) for bundle in bundles] if bundles else [default_model()], settings)


def default_model() -> Path:
    """The bundle that comes with vssl, and a word on standard error that it is this one."""
    from vssl.bundle.default import default_bundle

    location = default_bundle()
    echo("vssl: no bundle named, so this is the default model; `vssl info` says what it is good for", err=True)
    return location
