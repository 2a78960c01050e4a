"""The same image through every door gives the same numbers, those of the engine. The bundle pads and scales."""

import base64
import gzip
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import openai
import pyarrow as pa
import pytest
from PIL import ExifTags, Image

pytest.importorskip("tritonclient.http")
pytest.importorskip("grpc_health")

import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from tests.server.conftest import expected
from tests.server.process.test_serve import running
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.images.decoding import Preprocessing, decode
from vssl_client import Client
from vssl_server.http.embed.writers import ARROW, NPZ
from vssl_server.wire.tensors import NPY


def turned_jpeg(width: int, height: int) -> bytes:
    """Noise, turned by EXIF; neither side is a multiple of 8."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    exif, file = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = 6
    Image.fromarray(pixels).save(file, "JPEG", exif=exif)
    return file.getvalue()


FILE = turned_jpeg(300, 201)
TEXT = base64.b64encode(FILE).decode()
JPEG = {"Content-Type": "image/jpeg"}

Numbers = tuple[Any, Any, Any]
"""Embedding [D], variance [D], uncertainty."""


@dataclass(frozen=True)
class Doors:
    """Where one server listens, and the image as pixels."""

    url: str
    grpc: str
    pixels: npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("doors") / "bundle", crop=0.9, fit="pad", decoder="scaled-1")


@pytest.fixture(scope="module")
def doors(bundle: Bundle) -> Iterator[Doors]:
    how = bundle.manifest.preprocessing
    assert not np.array_equal(decode(FILE, how), decode(FILE, Preprocessing(how.size, how.crop, fit="pad")))
    with running(bundle.location, "--grpc-port", "0") as server:
        address = server.line.partition("grpc://")[2].strip()
        yield Doors(server.url, address, decode(FILE, how)[None])


def embed(doors: Doors, query: str = "", **request: Any) -> httpx2.Response:
    return httpx2.post(f"{doors.url}/v1/embed{query}", **request)


def of_item(answer: httpx2.Response) -> Numbers:
    [item] = answer.json()["data"]
    return item["embedding"], item["variance"], item["uncertainty"]


def saved(array: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def unpacked(answer: httpx2.Response, kind: str) -> Numbers:
    embedding, variance, uncertainty = of_item(answer)
    vectors = [np.frombuffer(base64.b64decode(text), kind) for text in (embedding, variance)]
    return *vectors, uncertainty


def of_npz(answer: httpx2.Response) -> Numbers:
    arrays = np.load(io.BytesIO(answer.content))
    return arrays["embedding"][0], arrays["variance"][0], arrays["uncertainty"][0]


def of_arrow(answer: httpx2.Response) -> Numbers:
    [row] = pa.ipc.open_stream(answer.content).read_all().to_pylist()
    return row["embedding"], row["variance"], row["uncertainty"]


def by_openai(doors: Doors, **options: Any) -> Numbers:
    with openai.OpenAI(base_url=f"{doors.url}/v1", api_key="none") as client:
        item: Any = client.embeddings.create(model="tiny", input=TEXT, **options).data[0]
    if isinstance(item.embedding, str):
        item.embedding = np.frombuffer(base64.b64decode(item.embedding), "<f4")
    return item.embedding, item.variance, item.uncertainty


def by_client(doors: Doors, image: Any = FILE, **options: Any) -> Numbers:
    with Client(options.pop("url", doors.url), **options) as client:
        assert options or client.model().preprocessing == Preprocessing(32, 0.9, fit="pad", decoder="scaled-1")
        result = client.embed([image])
    return result.embedding[0], result.variance[0], result.uncertainty[0]


def by_triton(doors: Doors, library: Any, image: bool, **options: Any) -> Numbers:
    """`options` are those of `set_data_from_numpy`."""
    array = np.array([[FILE]], np.object_) if image else doors.pixels
    given = library.InferInput("image", list(array.shape), "BYTES" if image else "UINT8")
    given.set_data_from_numpy(array, **options)
    address = doors.grpc if library is triton_grpc else doors.url.removeprefix("http://")
    with library.InferenceServerClient(address) as client:
        result = client.infer("tiny_image" if image else "tiny", [given])
    return tuple(result.as_numpy(name)[0] for name in ("embedding", "variance", "uncertainty"))


def bare(doors: Doors, name: str, body: bytes) -> Numbers:
    headers = {"Inference-Header-Content-Length": "0"}
    answer = httpx2.post(f"{doors.url}/v2/models/{name}/infer", content=body, headers=headers)
    numbers = np.frombuffer(answer.content[int(answer.headers["inference-header-content-length"]) :], "<f4")
    return numbers[:16], numbers[16:32], numbers[32]


DOORS: dict[str, Callable[[Doors], Numbers]] = {
    "raw": lambda d: of_item(embed(d, content=FILE, headers=JPEG)),
    "gzip": lambda d: of_item(embed(d, content=gzip.compress(FILE), headers=JPEG | {"Content-Encoding": "gzip"})),
    "multipart": lambda d: of_item(embed(d, files={"images": ("a.jpg", FILE)})),
    "json": lambda d: of_item(embed(d, json={"images": [TEXT]})),
    "base64": lambda d: unpacked(embed(d, "?encoding=base64", content=FILE, headers=JPEG), "<f4"),
    "float16": lambda d: unpacked(embed(d, "?encoding=float16", content=FILE, headers=JPEG), "<f2"),
    "npz": lambda d: of_npz(embed(d, content=FILE, headers=JPEG | {"Accept": NPZ})),
    "arrow": lambda d: of_arrow(embed(d, content=FILE, headers=JPEG | {"Accept": ARROW})),
    "our client": by_client,
    "our client, pixels": lambda d: by_client(d, resize_locally=True),
    "our client, a PIL image not loaded yet": lambda d: by_client(d, Image.open(io.BytesIO(FILE))),
    "our client over v2": lambda d: by_client(d, url=d.url, transport="triton", model="tiny", resize_locally=True),
    "our client over grpc": lambda d: by_client(d, url=d.grpc, transport="grpc", model="tiny", resize_locally=True),
    "openai": by_openai,
    "openai, float": lambda d: by_openai(d, encoding_format="float"),
    "openai, base64": lambda d: by_openai(d, encoding_format="base64"),
    "v2 pixels, binary": lambda d: by_triton(d, triton_http, False),
    "v2 pixels, json": lambda d: by_triton(d, triton_http, False, binary_data=False),
    "pixels as NumPy saves them": lambda d: of_item(embed(d, content=saved(d.pixels), headers={"Content-Type": NPY})),
    "v2 image": lambda d: by_triton(d, triton_http, True),
    "v2 image, bare": lambda d: bare(d, "tiny_image", FILE),
    "v2 pixels, bare": lambda d: bare(d, "tiny", d.pixels.tobytes()),
    "grpc pixels": lambda d: by_triton(d, triton_grpc, False),
    "grpc image": lambda d: by_triton(d, triton_grpc, True),
}


@pytest.mark.parametrize("door", DOORS)
def test_the_same_numbers_through_every_door(doors: Doors, bundle: Bundle, door: str) -> None:
    truth = expected(bundle, [FILE])
    embedding, variance, uncertainty = (np.asarray(part, np.float32).squeeze() for part in DOORS[door](doors))
    # One image at a time is one batch of one, here and there: not even rounding differs, but where it was asked for.
    kind = np.float16 if door == "float16" else np.float32
    np.testing.assert_array_equal(embedding, truth.embedding[0].astype(kind))
    np.testing.assert_array_equal(variance, truth.variance[0].astype(kind))
    assert uncertainty == truth.uncertainty[0]
