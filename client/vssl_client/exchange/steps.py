"""What a client does next, without doing it: retries, several servers, requests that prove too large.

Each function is a generator: it yields a step, and gets the answer sent or the error thrown in. `Client` takes the
steps in threads, `AsyncClient` in an event loop; the decisions are made here, once.
"""

import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl_client.errors import (
    ClientError,
    ConnectionFailed,
    ImageRejected,
    ModelChanged,
    Overloaded,
    RequestRejected,
    ServerFailed,
)
from vssl_client.exchange.calls import Call
from vssl_client.exchange.servers import Servers
from vssl_client.results.assembly import Provenance, all_failed, all_failed_by, joined, replaced, spread
from vssl_client.results.model_info import ModelInfo
from vssl_client.results.result import EmbeddingResult

R = TypeVar("R")
LOG = logging.getLogger("vssl.client")
PASSING = (ConnectionFailed, Overloaded, ServerFailed)
"""Errors that another try or another server may cure."""


@dataclass(frozen=True)
class Pixels:
    """Images as the model `model` takes them, uint8 [N, S, S, 3], in place of their files.

    `as_images`: the server takes them where it takes files; else they are tensors, whose answer has no calibration.
    """

    model: str
    array: npt.NDArray[np.uint8]
    as_images: bool = False

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, rows: slice) -> "Pixels":
        return replace(self, array=self.array[rows])


Batch = Sequence[bytes] | Pixels
"""Images of one request: encoded, or as pixels."""


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


@dataclass(frozen=True)
class AskModel:
    """Ask a server for its model; the answer is a ModelInfo."""

    server: int


@dataclass(frozen=True)
class AskEmbeddings:
    """Ask a server to embed a batch; the answer is an EmbeddingResult."""

    server: int
    batch: Batch


@dataclass(frozen=True)
class Decode:
    """Decode images here; the answer is what `inputs.decode_all` gives."""

    images: Sequence[bytes]
    preprocessing: Preprocessing


@dataclass(frozen=True)
class Split:
    """Split images into requests within the limits of a model; the answer is what `splitting.split` gives."""

    images: Sequence[bytes]
    model: ModelInfo


@dataclass(frozen=True)
class Send:
    """Send a request to a server; the answer is the body of its answer."""

    server: int
    call: Call


@dataclass(frozen=True)
class Here:
    """Do something in this process that may take long; the answer is what it gives."""

    work: Callable[[], Any]


Step = Pause | AskModel | AskEmbeddings | Decode | Split | Send | Here
Steps = Generator[Step, Any, R]


def model(servers: Servers, retries: int) -> Steps[ModelInfo]:
    """The model of the servers that answer, without those that have just failed.

    Raises:
        ModelChanged: they have different models.
        ClientError: none answers.
    """
    attempt = 0
    problem: ClientError
    while True:
        found: dict[int, ModelInfo] = {}
        for server in servers.rested():
            try:
                found[server] = yield AskModel(server)
                servers.answered(server)
            except PASSING as error:
                problem = error
                servers.failed(server, getattr(error, "retry_after", None))
        if found:
            models = list(dict.fromkeys(found.values()))
            if len(models) > 1:
                names = " and ".join(f"{one.name} version {one.version} (id {one.id[:12]})" for one in models)
                raise ModelChanged(f"the servers have different models: {names}; start the same one on each")
            return models[0]
        if attempt == retries:
            raise problem
        attempt += 1
        yield _pause(servers, problem, f"retry {attempt} of {retries}")


def embeddings(servers: Servers, retries: int, batch: Batch) -> Steps[EmbeddingResult]:
    """Embed a batch in one request, or in several if the server finds one too large.

    Raises:
        ClientError: the batch as a whole can't be embedded; an ImageRejected is always in `errors`.
    """
    try:
        result: EmbeddingResult = yield from _persist(servers, retries, batch)
    except RequestRejected as error:
        if error.status != 413:
            raise
        refused = ImageRejected("too_many_bytes", str(error))
        refused.request_id = error.request_id
    else:
        if result.embedding.shape[1]:
            return result
        # An answer in JSON without an embedding lacks D, and a stream must not change its shape.
        found = yield from model(servers, retries)
        by = Provenance(result.model, result.version, result.bundle_id)
        return all_failed(result.errors, by, found.dimension)
    if len(batch) > 1:
        servers.crowded = True
        half = len(batch) // 2
        first = yield from embeddings(servers, retries, batch[:half])
        return joined([first, (yield from embeddings(servers, retries, batch[half:]))])
    found = yield from model(servers, retries)
    return all_failed_by([refused], found)


def within_limits(servers: Servers, retries: int, images: Sequence[bytes], known: ModelInfo) -> Steps[EmbeddingResult]:
    """The same in requests within the limits that the server tells.

    Raises:
        ClientError: as for `embeddings`.
    """
    results = []
    for batch in (yield Split(images, known)):
        results.append((yield from embeddings(servers, retries, batch)))
    return joined(results)


def resized(
    servers: Servers, retries: int, images: Sequence[bytes], known: ModelInfo, files_too: bool = False
) -> Steps[EmbeddingResult]:
    """The same, but send the pixels that the model `known` looks at where these are fewer bytes than the files.

    `files_too`: ask the servers for what can't be decoded here, as they may know more formats.

    Raises:
        UsageError: the server does not tell its preprocessing.
        ClientError: as for `embeddings`.
    """
    preprocessing = known.preprocessing
    if preprocessing is None:
        raise UsageError("the server does not tell its preprocessing: leave out resize_locally, or update the server")
    if sum(map(len, images)) <= len(images) * preprocessing.size**2 * 3:
        return (yield from embeddings(servers, retries, images))
    pixels, errors = yield Decode(images, preprocessing)
    if len(pixels):
        drawn = Pixels(known.name, pixels, known.takes_pixels)
        result = spread((yield from embeddings(servers, retries, drawn)), errors)
    else:
        result = all_failed_by(errors, known)
    refused = [row for row, error in enumerate(errors) if error is not None]
    if not files_too or not refused:
        return result
    return replaced(result, refused, (yield from embeddings(servers, retries, [images[row] for row in refused])))


def sent(servers: Servers, retries: int, call: Call) -> Steps[bytes]:
    """Send a request to the first server, up to `retries` times again if it may be repeated; the body of the answer.

    Raises:
        ClientError: the server refuses it, or no answer comes.
    """
    attempt = 0
    while True:
        try:
            body: bytes = yield Send(0, call)
            servers.answered(0)
            return body
        except PASSING as error:
            servers.failed(0, getattr(error, "retry_after", None), attempt + 1)
            untouched = isinstance(error, Overloaded) and error.status == 429
            if attempt == retries or not (call.repeatable or untouched):
                raise
            problem = error
        attempt += 1
        yield _pause(servers, problem, f"retry {attempt} of {retries}")


def here(work: Callable[[], R]) -> Steps[R]:
    """Do one thing in this process."""
    result: R = yield Here(work)
    return result


def _persist(servers: Servers, retries: int, batch: Batch) -> Steps[EmbeddingResult]:
    """Try up to `retries` times again, and once more for each further server."""
    failed: list[int] = []
    while True:
        with servers.taken(len(batch), failed) as server:
            try:
                result: EmbeddingResult = yield AskEmbeddings(server, batch)
                servers.answered(server)
                return result
            except PASSING as error:
                failed.append(server)
                servers.failed(server, getattr(error, "retry_after", None), failed.count(server))
                if len(failed) >= retries + len(servers):
                    raise
                problem = error
        yield _pause(servers, problem, f"try {len(failed) + 1} of {retries + len(servers)}")


def _pause(servers: Servers, problem: ClientError, next_one: str) -> Pause:
    seconds = servers.pause()
    LOG.debug("%s (request %s); %s in %.2f s", problem, problem.request_id, next_one, seconds)
    return Pause(seconds)
