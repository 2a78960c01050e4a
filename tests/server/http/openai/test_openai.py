"""`POST /v1/embeddings` through OpenAI's own SDK, over TCP."""

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from starlette.testclient import TestClient

from tests.bad_files import bad_files
from tests.server.conftest import GatedEngine, expected, over_tcp, png, serving
from tests.server.http.test_errors import error
from vssl.bundle.reading import Bundle

FILES = [png(shade) for shade in (10, 120, 250)]


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def connect(address: tuple[str, int]) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{address[0]}:{address[1]}/v1", api_key="none", max_retries=0)


@pytest.fixture
def sdk(address: tuple[str, int]) -> Iterator[openai.OpenAI]:
    with connect(address) as client:
        yield client


def extra(items: Any, name: str) -> list[Any]:
    return [getattr(item, name) for item in items]


@pytest.mark.parametrize("asked", [{}, {"encoding_format": "float"}, {"dimensions": 16, "user": "me"}])
def test_a_list_of_images(sdk: openai.OpenAI, tiny_bundle: Bundle, asked: dict[str, Any]) -> None:
    images = [text(FILES[0]), f"data:image/png;base64,{text(FILES[1])}", text(FILES[2])]
    answer = sdk.embeddings.create(model="tiny", input=images, **asked)
    truth = expected(tiny_bundle, FILES)
    assert (answer.object, answer.model, answer.usage.total_tokens) == ("list", "tiny", 0)
    assert answer.bundle_id == tiny_bundle.manifest.id  # type: ignore[attr-defined]
    assert [(item.object, item.index) for item in answer.data] == [("embedding", index) for index in range(3)]
    np.testing.assert_allclose([item.embedding for item in answer.data], truth.embedding, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(extra(answer.data, "variance"), truth.variance, rtol=1e-5)
    np.testing.assert_allclose(extra(answer.data, "uncertainty"), truth.uncertainty, rtol=1e-5)


def test_base64_is_little_endian_float32(sdk: openai.OpenAI, tiny_bundle: Bundle) -> None:
    answer = sdk.embeddings.create(model="tiny", input=text(FILES[0]), encoding_format="base64")
    encoded: Any = answer.data[0].embedding
    vector = np.frombuffer(base64.b64decode(encoded), "<f4")
    np.testing.assert_array_equal(vector, expected(tiny_bundle, FILES[:1]).embedding[0])


def test_one_image_alone_and_the_list_of_models(sdk: openai.OpenAI, tiny_bundle: Bundle) -> None:
    [name] = [card.id for card in sdk.models.list()]
    card: Any = sdk.models.retrieve(name)
    assert (card.id, card.bundle_id) == ("tiny", tiny_bundle.manifest.id)
    answer = sdk.embeddings.create(model=name, input=f"data:image/png;base64,{text(FILES[0])}")
    np.testing.assert_allclose(answer.data[0].embedding, expected(tiny_bundle, FILES[:1]).embedding[0], atol=1e-6)


async def in_turn(client: openai.AsyncOpenAI) -> list[float]:
    async with client:
        return (await client.embeddings.create(model="tiny", input=text(FILES[0]))).data[0].embedding


def test_the_sdks_own_asyncio(address: tuple[str, int], tiny_bundle: Bundle) -> None:
    import asyncio

    client = openai.AsyncOpenAI(base_url=f"http://{address[0]}:{address[1]}/v1", api_key="none")
    np.testing.assert_allclose(asyncio.run(in_turn(client)), expected(tiny_bundle, FILES[:1]).embedding[0], atol=1e-6)


def test_a_model_that_is_not_served(sdk: openai.OpenAI) -> None:
    for ask in (sdk.models.retrieve, lambda model: sdk.embeddings.create(model=model, input=text(FILES[0]))):
        with pytest.raises(openai.NotFoundError, match="no model 'clip'; served here: tiny") as raised:
            ask("clip")
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")


def test_null_is_absent(client: TestClient, tiny_bundle: Bundle) -> None:
    """Some gateways write each option that nobody gave as null."""
    asked = {"model": "tiny", "input": text(FILES[0]), "encoding_format": None, "dimensions": None, "user": None}
    answer = client.post("/v1/embeddings", json=asked | {"timeout": None})
    truth = expected(tiny_bundle, FILES[:1])
    np.testing.assert_allclose(answer.json()["data"][0]["embedding"], truth.embedding[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [[1, 2], [[1, 2], [3]], [1] * 1000, 5, {"text": "a cat"}, [{"text": "a cat"}]])
def test_tokens_are_answered_with_what_is_wanted(client: TestClient, tokens: Any) -> None:
    failed = error(client.post("/v1/embeddings", json={"model": "tiny", "input": tokens}), 422, "invalid_option")
    assert (failed["param"], "images are wanted" in failed["message"]) == ("input", True)


@pytest.mark.parametrize("name", sorted(bad_files()))
def test_each_bad_file_is_refused_by_its_place(sdk: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as raised:
        sdk.embeddings.create(model="tiny", input=[text(FILES[0]), text(bad_files()[name])])
    assert (raised.value.code, raised.value.param) == ("invalid_image", "input[1]")
    assert raised.value.type == "invalid_request_error"
    assert "1 of 2 images can't be embedded: input[1]: " in raised.value.message


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ([], 422, "invalid_option", "body"),
        ({"model": "tiny"}, 422, "invalid_option", "input"),
        ({"input": ""}, 422, "invalid_option", "model"),
        ({"model": "tiny", "input": []}, 422, "no_images", "input"),
        ({"model": "tiny", "input": [[1, 2]]}, 422, "invalid_option", "input"),
        ({"model": "tiny", "input": ["", 5]}, 422, "invalid_option", "input"),
        ({"model": "tiny", "input": "", "encoding_format": "hex"}, 422, "invalid_option", "encoding_format"),
        ({"model": "tiny", "input": "", "dimensions": 15}, 422, "invalid_option", "dimensions"),
        ({"model": "tiny", "input": "", "colour": 1}, 422, "invalid_option", "colour"),
        ({"model": "tiny", "input": ["aa"] * 257}, 413, "too_many_images", "input"),
        ({"model": "tiny", "input": "no text in base64"}, 422, "invalid_image", "input[0]"),
    ],
)
def test_bodies_of_another_shape(client: TestClient, body: Any, status: int, code: str, param: str) -> None:
    assert error(client.post("/v1/embeddings", json=body), status, code)["param"] == param


def test_bodies_that_are_no_json(client: TestClient) -> None:
    kind = {"Content-Type": "application/json"}
    error(client.post("/v1/embeddings", content=b"{", headers=kind), 400, "invalid_json")
    error(client.post("/v1/embeddings", content=b"{}", headers=kind | {"Content-Encoding": "br"}), 415,
          "unsupported_encoding")  # fmt: skip
    error(client.post("/v1/embeddings", content=b"{}", headers={"Content-Type": "image/png"}), 415,
          "unsupported_media_type")  # fmt: skip


def test_a_full_queue_and_a_late_answer(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "openai", queue_images=1, max_images=1, deadline_seconds=0.5) as running,
        over_tcp(running.client.app) as address,
        connect(address) as sdk,
        running.model.batcher.admit(1),
    ):
        with pytest.raises(openai.RateLimitError) as refused:
            sdk.embeddings.create(model="openai", input=text(FILES[0]))
        assert (refused.value.code, refused.value.response.headers["retry-after"]) == ("queue_full", "1")
    with (
        serving(tiny_bundle, engine, "late too", deadline_seconds=0.2) as running,
        over_tcp(running.client.app) as address,
        connect(address) as sdk,
    ):
        with pytest.raises(openai.InternalServerError) as late:
            sdk.embeddings.create(model="late too", input=text(FILES[0]))
        assert (late.value.status_code, late.value.code) == (504, "deadline_exceeded")
        engine.let.release(100)
