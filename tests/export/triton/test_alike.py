"""A real Triton and our server are asked the same questions; what comes of each is of the same class."""

import base64
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests.export.triton_server import running
from tests.server.conftest import png
from tests.server.process.test_serve import running as serving
from vssl.bundle.reading import Bundle
from vssl_export.triton.repository import write_repository

pytestmark = pytest.mark.triton

PIXELS, FILES = np.full((2, 32, 32, 3), 7, np.uint8), np.array([[png(9)], [png(8)]], np.object_)
REFUSALS = ["400", "404", "405", "413", "422"]
REFUSALS += [f"StatusCode.{name}" for name in ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED")]
ADMIN = {"authorization": "Bearer admin"}
PROTOCOLS = ("http", "grpc")


@dataclass(frozen=True)
class Side:
    """A server, by HTTP and by gRPC."""

    url: str
    http: Any
    grpc: Any
    ours: bool


@pytest.fixture(scope="module")
def sides(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Side]]:
    root = tmp_path_factory.mktemp("alike")
    write_repository(tiny_bundle, root / "models")
    (root / "admins").write_text("admin\n")
    flags = ["--grpc-port", "0", "--admin-keys-file", str(root / "admins")]
    with running(root / "models", root) as triton, serving(tiny_bundle.location, *flags) as ours:
        addresses = {
            "triton": (triton.http, triton.grpc),
            "ours": (ours.url.removeprefix("http://"), ours.line.partition("grpc://")[2].strip()),
        }
        both = {
            name: Side(
                f"http://{http}",
                tritonclient.http.InferenceServerClient(http),
                tritonclient.grpc.InferenceServerClient(grpc),
                name == "ours",
            )
            for name, (http, grpc) in addresses.items()
        }
        yield both
        for side in both.values():  # Triton waits for its clients
            side.http.close()
            side.grpc.close()


def infer(protocol: str, model: str = "tiny", value: Any = PIXELS, **options: Any) -> Callable[[Side], object]:
    """A request by Triton's client; `shape`, `datatype`, `name` and `outputs` may be what they should not be."""
    library = {"http": tritonclient.http, "grpc": tritonclient.grpc}[protocol]
    datatype = options.pop("datatype", "UINT8" if value.dtype == np.uint8 else "BYTES")
    name, copies = options.pop("name", "image"), options.pop("copies", 1)
    outputs = [library.InferRequestedOutput(*wanted) for wanted in options.pop("outputs", [])]

    def ask(side: Side) -> object:
        tensor = library.InferInput(name, value.shape, datatype)
        tensor.set_data_from_numpy(value)
        return getattr(side, protocol).infer(model, [tensor] * copies, outputs=outputs or None, **options) is not None

    return ask


def call(protocol: str, method: str, *arguments: Any, **options: Any) -> Callable[[Side], object]:
    """A method of Triton's client; True and False are told apart."""

    def ask(side: Side) -> object:
        found = getattr(getattr(side, protocol), method)(*arguments, **options)
        return found if isinstance(found, bool) else found is not None

    return ask


def bare(path: str, body: Any = None, **headers: str) -> Callable[[Side], object]:
    """A request without a client; the body is JSON, or bytes."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()

    def ask(side: Side) -> object:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            with urllib.request.urlopen(urllib.request.Request(side.url + path, data, named)) as answer:
                return answer.status == 200
        except urllib.error.HTTPError as error:
            raise InferenceServerException(error.read().decode(), str(error.code)) from None

    return ask


def image(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": [7] * 3072} | fields]}


INFER, INFER_FILE = "/v2/models/tiny/infer", "/v2/models/tiny_image/infer"
BASE64 = base64.b64encode(png(9)).decode()
QUESTIONS: dict[str, Callable[[Side], object]] = {
    **{f"{p} server is live": call(p, "is_server_live") for p in PROTOCOLS},
    **{f"{p} server is ready": call(p, "is_server_ready") for p in PROTOCOLS},
    **{f"{p} model is ready": call(p, "is_model_ready", "tiny") for p in PROTOCOLS},
    **{f"{p} model nope is ready": call(p, "is_model_ready", "nope") for p in PROTOCOLS},
    **{f"{p} version 7 is ready": call(p, "is_model_ready", "tiny", "7") for p in PROTOCOLS},
    **{f"{p} version x is ready": call(p, "is_model_ready", "tiny", "x") for p in PROTOCOLS},
    **{f"{p} server metadata": call(p, "get_server_metadata") for p in PROTOCOLS},
    **{f"{p} metadata": call(p, "get_model_metadata", "tiny_image") for p in PROTOCOLS},
    **{f"{p} metadata of nope": call(p, "get_model_metadata", "nope") for p in PROTOCOLS},
    **{f"{p} config": call(p, "get_model_config", "tiny") for p in PROTOCOLS},
    **{f"{p} config of nope": call(p, "get_model_config", "nope") for p in PROTOCOLS},
    **{f"{p} statistics": call(p, "get_inference_statistics", "tiny") for p in PROTOCOLS},
    **{f"{p} statistics of all": call(p, "get_inference_statistics") for p in PROTOCOLS},
    **{f"{p} statistics of nope": call(p, "get_inference_statistics", "nope") for p in PROTOCOLS},
    **{f"{p} pixels": infer(p) for p in PROTOCOLS},
    **{f"{p} files": infer(p, "tiny_image", FILES) for p in PROTOCOLS},
    **{f"{p} a model that is not there": infer(p, "nope") for p in PROTOCOLS},
    **{f"{p} a version that is not there": infer(p, model_version="7") for p in PROTOCOLS},
    **{f"{p} another type": infer(p, value=PIXELS.astype(np.float32), datatype="FP32") for p in PROTOCOLS},
    **{f"{p} another shape": infer(p, value=PIXELS[:, :8]) for p in PROTOCOLS},
    **{f"{p} another input": infer(p, name="pixels") for p in PROTOCOLS},
    **{f"{p} an input twice": infer(p, copies=2) for p in PROTOCOLS},
    **{f"{p} a bad file": infer(p, "tiny_image", np.array([[b"text"]], np.object_)) for p in PROTOCOLS},
    **{f"{p} a chosen output": infer(p, outputs=[("uncertainty",)]) for p in PROTOCOLS},
    **{f"{p} an output that is not there": infer(p, outputs=[("logits",)]) for p in PROTOCOLS},
    **{f"{p} more than the largest batch": infer(p, value=np.zeros((300, 32, 32, 3), np.uint8)) for p in PROTOCOLS},
    **{f"{p} a timeout of a minute": infer(p, timeout=60_000_000) for p in PROTOCOLS},
    **{f"{p} a priority": infer(p, priority=1) for p in PROTOCOLS},
    **{f"{p} a sequence": infer(p, sequence_id=5, sequence_start=True) for p in PROTOCOLS},
    **{f"{p} parameters of its own": infer(p, parameters={"mine": "yes", "n": 1}) for p in PROTOCOLS},
    **{
        f"{p} gzip": infer(
            p, **{"http": {"request_compression_algorithm": "gzip"}, "grpc": {"compression_algorithm": "gzip"}}[p]
        )
        for p in PROTOCOLS
    },
    **{f"{p} index": call(p, "get_model_repository_index", headers=ADMIN) for p in PROTOCOLS},
    **{f"{p} shared memory status": call(p, "get_system_shared_memory_status") for p in PROTOCOLS},
    **{
        f"{p} shared memory registered": call(p, "register_system_shared_memory", "region", "/none", 10)
        for p in PROTOCOLS
    },
    **{f"{p} CUDA shared memory status": call(p, "get_cuda_shared_memory_status") for p in PROTOCOLS},
    **{f"{p} trace settings": call(p, "get_trace_settings") for p in PROTOCOLS},
    **{f"{p} log settings": call(p, "get_log_settings") for p in PROTOCOLS},
    "http JSON": bare(INFER, image()),
    "http base64": bare(INFER_FILE, image(datatype="BYTES", shape=[1, 1], data=[BASE64])),
    "http a body of one file": bare(INFER_FILE, png(9), Inference_Header_Content_Length="0"),
    "http no JSON": bare(INFER, b"{"),
    "http no body": bare(INFER, b""),
    "http no inputs": bare(INFER, {}),
    "http inputs null": bare(INFER, {"inputs": None}),
    "http empty inputs": bare(INFER, {"inputs": []}),
    "http too few values": bare(INFER, image(data=[7])),
    "http a negative shape": bare(INFER, image(shape=[-1, 32, 32, 3])),
    "http too large values": bare(INFER, image(data=[300] * 3072)),
    "http null parameters": bare(INFER, image() | {"parameters": None}),
    "http null outputs": bare(INFER, image() | {"outputs": None}),
    "http empty outputs": bare(INFER, image() | {"outputs": []}),
    "http null id": bare(INFER, image() | {"id": None}),
    "http a number as id": bare(INFER, image() | {"id": 7}),
    "http a timeout that is text": bare(INFER, image() | {"parameters": {"timeout": "soon"}}),
    "http a timeout below zero": bare(INFER, image() | {"parameters": {"timeout": -1}}),
    "http unknown fields": bare(INFER, image() | {"more": 1}),
    "http classification": bare(
        INFER, image() | {"outputs": [{"name": "embedding", "parameters": {"classification": 2}}]}
    ),
    "http shared memory of an input": bare(
        INFER, image(data=None, parameters={"shared_memory_region": "r", "shared_memory_byte_size": 3072})
    ),
    "http shared memory of an output": bare(
        INFER,
        image()
        | {
            "outputs": [
                {"name": "embedding", "parameters": {"shared_memory_region": "r", "shared_memory_byte_size": 128}}
            ]
        },
    ),
    "http binary_data_size without bytes": bare(INFER, image(data=None, parameters={"binary_data_size": 3072})),
    "http a header length that is none": bare(INFER, image(), Inference_Header_Content_Length="x"),
    "http GET of infer": bare(INFER),
    "http a path that is not there": bare("/v2/nothing"),
    "grpc classification": infer("grpc", outputs=[("embedding", 2)]),
}


OTHERWISE = {
    "grpc version x is ready": ("refused", "False", "versions are any text here"),
    "http base64": ("refused", "True", "Triton takes texts for the bytes of files"),
    "http null parameters": ("refused", "True", "null is absent"),
    "http null outputs": ("refused", "True", "null is absent"),
    "http null id": ("refused", "True", "null is absent"),
    "http too large values": ("True", "refused", "Triton takes them modulo 256"),
    "classification": ("True", "refused", "embeddings have no classes"),
    "shared memory status": ("True", "refused", "there is none"),
    "trace settings": ("True", "refused", "there are none"),
    "log settings": ("True", "refused", "there are none"),
}
"""Questions, by how their names end, whose outcomes differ: Triton's, ours, and why."""


def outcome(ask: Callable[[Side], object], side: Side) -> str:
    """`True` or `False` for what was answered; `refused` for a client's mistake, or the status of another error.

    Triton calls some of its clients' mistakes its own (500); our server may not.
    """
    try:
        return str(ask(side))
    except InferenceServerException as error:
        return "refused" if error.status() in REFUSALS or not side.ours else str(error)


@pytest.mark.parametrize("question", QUESTIONS)
def test_both_answer_alike(sides: dict[str, Side], question: str) -> None:
    found = tuple(outcome(QUESTIONS[question], sides[name]) for name in ("triton", "ours"))
    known = [(triton, ours) for end, (triton, ours, _) in OTHERWISE.items() if question.endswith(end)]
    assert found in (known or [("True", "True"), ("False", "False"), ("refused", "refused")])
