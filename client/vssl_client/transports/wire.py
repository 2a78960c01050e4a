"""`POST /v1/embed`, `GET /v1/models` and tensors of the Open Inference Protocol as bytes: pure functions.

Images go out unchanged, as parts of one multipart body; vectors come back as base64 of little-endian float32 in JSON.
No number is written in digits, and every image can have its own error. Pixels go there as one NumPy array. A server
that does not take these gets them at the protocol's inference route: tensors behind a JSON head that describes them,
both ways.
"""

import base64
import io
import json
import secrets
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vssl.arrays import Float32s
from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.uncertainty.calibrated import FLAGS, NUMBERS
from vssl_client.errors import BadAnswer, ImageRejected
from vssl_client.results.assembly import Numbers, Provenance, all_failed, filled
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult, Flags

EMBED, MODELS = "/v1/embed?encoding=base64&on_error=return", "/v1/models"
INFER, HEADER_LENGTH = "/v2/models/{}/infer", "Inference-Header-Content-Length"
NPY = "application/x-npy"
LIMITS = ("max_images", "max_body_bytes", "max_request_pixels")
BUNDLE = "vssl_bundle"
"""The parameter of an answer, or of a model's configuration, that names the bundle."""
OUTPUTS = ("embedding", "variance", "uncertainty")
Row = dict[str, Any]


def embed_body(images: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """The body and its headers for at least one encoded image."""
    boundary = secrets.token_hex(16)
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="image"\r\n\r\n'.encode()
    parts = [piece for image in images for piece in (head, image, b"\r\n")]
    body = b"".join([*parts, f"--{boundary}--\r\n".encode()])
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def tensor_body(pixels: npt.NDArray[np.uint8]) -> tuple[bytes, dict[str, str]]:
    """The body and its headers for uint8 [N, S, S, 3]."""
    tensor = {
        "name": "image",
        "datatype": "UINT8",
        "shape": pixels.shape,
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(head))}
    return head + pixels.tobytes(), headers


def array_body(pixels: npt.NDArray[np.uint8]) -> tuple[bytes, dict[str, str]]:
    """The same for a server that takes NumPy's files where it takes images."""
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue(), {"Content-Type": NPY}


def read_embeddings(body: bytes, images: int) -> EmbeddingResult:
    """The answer to `images` images.

    Raises:
        BadAnswer: it is not the answer of a VSSL server.
    """
    try:
        answer = json.loads(body)
        rows = answer["data"]
        by = Provenance(_text(answer["model"]), _text(answer["version"]), _bundle(answer, "bundle_id"))
        if [row["index"] for row in rows] != list(range(images)):
            raise ValueError(f"{len(rows)} rows for {images} images, or in another order")
        errors = [_error(row) for row in rows]
        good = [row for row in rows if "error" not in row]
        if not good:
            return all_failed(errors, by)
        embedding, variance = _vectors(good, "embedding"), _vectors(good, "variance")
        if embedding.shape != variance.shape:
            raise ValueError("embedding and variance differ in size")
        uncertainty = np.array([row["uncertainty"] for row in good], np.float32)
        calibrated = {name: _numbers(good, name) for name in NUMBERS}
        return filled(errors, by, Numbers(embedding, variance, uncertainty, flags=_flags(good), **calibrated))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _bad("/v1/embed", error) from error


def read_tensors(body: bytes, header_length: str | None, model: str, images: int) -> EmbeddingResult:
    """The answer to `images` images sent as pixels; it has no calibration.

    Raises:
        BadAnswer: it is not the answer of an inference server.
    """
    try:
        length = len(body) if header_length is None else int(header_length)
        head = json.loads(body[:length])
        arrays, rest = {}, memoryview(body)[length:]
        for output in head["outputs"]:
            size = output["parameters"]["binary_data_size"]
            arrays[output["name"]] = np.frombuffer(rest[:size], "<f4").reshape(images, -1)
            rest = rest[size:]
        embedding, variance, uncertainty = (arrays[name] for name in OUTPUTS)
        if embedding.shape != variance.shape:
            raise ValueError("embedding and variance differ in size")
        by = Provenance(model, _text(head["model_version"]), _bundle(head.get("parameters") or {}, BUNDLE))
        return filled([None] * images, by, Numbers(embedding, variance, uncertainty[:, 0]))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _bad(INFER.format(model), error) from error


def read_model(body: bytes, wanted: str | None = None) -> ModelInfo:
    """The served model with the name `wanted`, by default the first one.

    Raises:
        UsageError: the server has no model of that name.
        BadAnswer: it is not the answer of a VSSL server.
    """
    try:
        rows = json.loads(body)["data"]
        row = next((row for row in rows if row["id"] == wanted), None) if wanted else rows[0]
        if row is None:
            served = ", ".join(_text(row["id"]) for row in rows)
            raise UsageError(f"the server has no model {wanted!r}; it serves {served or 'none'}")
        name, version, bundle = (_text(row[key]) for key in ("id", "version", "bundle_id"))
        fields = row.get("preprocessing")
        preprocessing = None if fields is None else Preprocessing(**fields)
        images, most_bytes, pixels = (None if row.get(key) is None else int(row[key]) for key in LIMITS)
        encoder = None if row.get("encoder_id") is None else _text(row["encoder_id"])
        dimension, size = int(row["dimension"]), int(row["image_size"])
        limits = images, most_bytes, pixels
        takes_pixels = NPY in row.get("accepts", ())
        return ModelInfo(
            name,
            version,
            bundle,
            dimension,
            size,
            preprocessing,
            *limits,
            encoder_id=encoder,
            takes_pixels=takes_pixels,
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise _bad(MODELS, error) from error


def read_problem(body: bytes) -> tuple[str, str | None, str | None]:
    """Message, type and code of an error answer; anything else is quoted in short."""
    try:
        error = json.loads(body)["error"]
        if isinstance(error, str):  # as under /v2
            return _text(error), None, None
        return _text(error["message"]), error.get("type"), error.get("code")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return body[:200].decode(errors="replace").strip() or "no reason given", None, None


def _bad(path: str, error: Exception) -> BadAnswer:
    return BadAnswer(f"{path} gave no valid answer ({type(error).__name__}: {error}); is it a VSSL server?")


def _error(row: Row) -> ImageRejected | None:
    error = row.get("error")
    return None if error is None else ImageRejected(_text(error["type"]), _text(error["message"]))


def _text(value: object) -> str:
    # JSON can spell half a surrogate pair, which is not valid text and can't be stored.
    return str(value).encode(errors="replace").decode()


def _bundle(answer: Row, key: str) -> str | None:
    return None if answer.get(key) is None else _text(answer[key])


def _vectors(rows: list[Row], name: str) -> Float32s:
    flat = np.frombuffer(b"".join([base64.b64decode(row[name], validate=True) for row in rows]), "<f4")
    return flat.reshape(len(rows), -1)


def _numbers(rows: list[Row], name: str) -> Float32s | None:
    values = [row.get(name) for row in rows]
    if all(value is None for value in values):
        return None
    return np.array([np.nan if value is None else value for value in values], np.float32)


def _flags(rows: list[Row]) -> Flags | None:
    values = [row.get("flags") for row in rows]
    if all(value is None for value in values):
        return None
    return {name: np.array([bool(value and value.get(name)) for value in values]) for name in FLAGS}
