"""The application in this process: the real routes over a real bundle, or over an engine that a test controls."""

import io
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl.images.decoding import decode
from vssl.uncertainty.familiarity import references_of
from vssl_server.decoding.pool import Pool
from vssl_server.engine.batcher import Infer
from vssl_server.engine.model import Model
from vssl_server.http.app import create_app
from vssl_server.http.connection import Protocol
from vssl_server.process.listening import bind
from vssl_server.settings import Settings


@dataclass(frozen=True)
class Served:
    """A running application, the model behind it, and the threads that decode for it."""

    client: TestClient
    model: Model
    pool: Pool


@contextmanager
def serving(bundle: Bundle, infer: Infer | None = None, name: str = "tiny", **settings: Any) -> Iterator[Served]:
    """Run the application until the end of the block. `name` keeps the counters of two tests apart."""
    values = Settings(**settings)
    manifest = bundle.manifest.model_copy(update={"name": name})
    with Pool(values.decode_threads, values.max_pending_pixels) as pool:
        model = Model(manifest, infer or Engine(bundle), values, pool, references_of(bundle))
        # Errors must arrive as answers, as they do over TCP.
        with TestClient(create_app(values, [model]), raise_server_exceptions=False) as client:
            model.batcher.warm.result(60)
            yield Served(client, model, pool)


@pytest.fixture(scope="module")
def served(tiny_bundle: Bundle) -> Iterator[Served]:
    with serving(tiny_bundle) as running:
        yield running


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[tuple[str, int]]:
    """Where the same application listens, for clients that bring their own HTTP."""
    with over_tcp(served.client.app) as here:
        yield here


@pytest.fixture
def client(served: Served) -> TestClient:
    return served.client


class Announced(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()


@contextmanager
def over_tcp(app: ASGIApp, **config: Any) -> Iterator[tuple[str, int]]:
    """The application on a free port; its lifespan belongs to the caller. `config` is uvicorn's."""
    with bind("127.0.0.1", 0) as sock:
        fixed: dict[str, Any] = {"lifespan": "off", "log_config": None, "access_log": False, "ws": "none"}
        server = Announced(uvicorn.Config(app, **({"http": Protocol} | config | fixed)))
        thread = threading.Thread(target=server.run, args=([sock],))
        thread.start()
        assert server.listens.wait(60)
        try:
            yield sock.getsockname()
        finally:
            server.should_exit = True
            thread.join()


class GatedEngine:
    """A real engine that waits inside each call, warm-up excepted, until the test lets it through."""

    def __init__(self, bundle: Bundle) -> None:
        self.engine = Engine(bundle)
        self.batches: list[Pixels] = []
        self.entered = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, images: Pixels) -> Embeddings:
        if images.any():
            self.batches.append(images)
            self.entered.release()
            self.let.acquire()
        return self.engine(images)


def png(shade: int, width: int = 40, height: int = 32) -> bytes:
    """A real PNG, grey with a gradient, that no other shade is equal to; never all black."""
    pixels = np.full((height, width, 3), shade, np.uint8)
    pixels[:, :, 1] = np.linspace(1, 255, width).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def expected(bundle: Bundle, files: list[bytes]) -> Embeddings:
    """What the engine itself answers for these files."""
    return Engine(bundle)(np.stack([decode(data, bundle.manifest.preprocessing) for data in files]))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 and its key."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Another one, in the same two files."""
    pair = folder / "certificate.pem", folder / "key.pem"
    names = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", str(pair[1])]
    subprocess.run([*made, "-out", str(pair[0]), *names], check=True, capture_output=True)
    return pair
