"""Answers by content: the same numbers, no work done twice, never another model's, never over the limit."""

import base64
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bad_files import bad_files
from tests.server.conftest import expected, png, serving
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl_server.engine.cache import OVERHEAD, Cache
from vssl_server.settings import Settings

PNG = {"Content-Type": "image/png"}
ENTRY = OVERHEAD + 4 * 3


def row(value: float) -> Embeddings:
    return Embeddings(*(np.full(shape, value, np.float32) for shape in ((1, 1), (1, 1), (1,))))


@given(st.lists(st.integers(0, 7), max_size=60), st.integers(1, 4))
def test_it_keeps_the_answers_used_last(keys: list[int], places: int) -> None:
    cache, model = Cache(places * ENTRY), OrderedDict[int, None]()
    for key in keys:
        found = cache.get(bytes([key]))
        assert (found is not None) == (key in model)
        assert found is None or found.uncertainty[0] == key
        model[key] = None
        model.move_to_end(key)
        if len(model) > places:
            model.popitem(last=False)
        cache.put(bytes([key]), row(key))
        assert cache.bytes == len(model) * ENTRY <= cache.capacity


def test_an_answer_that_would_never_fit_is_not_kept() -> None:
    cache = Cache(ENTRY - 1)
    cache.put(b"a", row(1))
    assert (cache.get(b"a"), cache.bytes) == (None, 0)


def test_a_file_that_comes_again_costs_no_inference_in_whatever_form(tiny_bundle: Bundle) -> None:
    calls: list[int] = []

    def infer(images: Any) -> Embeddings:
        if images.any():
            calls.append(len(images))
        return engine(images)

    engine = Engine(tiny_bundle)
    files = [png(10), png(20), png(30)]
    with serving(tiny_bundle, infer, "remembers", cache_bytes=2**20) as served:
        first = served.client.post("/v1/embed", content=files[1], headers=PNG).json()["data"][0]
        texts = [base64.b64encode(file).decode() for file in files]
        mixed = [texts[0], f"data:image/png;base64,{texts[1]}", "no base64", texts[2]]
        answer = served.client.post("/v1/embed", json={"images": mixed, "on_error": "return"}).json()["data"]
        again = served.client.post("/v1/embed", json={"images": texts[::-1]}).json()["data"]
        npz = served.client.post("/v1/embed", content=files[0], headers=PNG | {"Accept": "application/x-npz"})
        shown = served.client.get("/metrics").text
    assert npz.status_code == 200
    assert sum(calls) == 3
    assert answer[1]["embedding"] == first["embedding"]
    assert answer[2]["error"]["type"] == "invalid_base64"
    truth = expected(tiny_bundle, files)
    for items in ([answer[0], answer[1], answer[3]], again[::-1]):
        for index, item in enumerate(items):
            np.testing.assert_allclose(item["embedding"], truth.embedding[index], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(item["variance"], truth.variance[index], rtol=1e-5, atol=1e-6)
            assert item["uncertainty"] == pytest.approx(truth.uncertainty[index], abs=1e-5)
    assert 'vssl_images_total{model="remembers",outcome="cached"} 5.0' in shown
    assert 'vssl_images_total{model="remembers",outcome="embedded"} 3.0' in shown


def test_a_bad_image_beside_a_known_one_is_named_by_its_own_place(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, name="names", cache_bytes=2**20) as served:
        assert served.client.post("/v1/embed", content=png(1), headers=PNG).status_code == 200
        files = [("images", ("a.png", png(1))), ("images", ("b.jpg", bad_files()["text.jpg"]))]
        answer = served.client.post("/v1/embed", files=files)
        assert answer.status_code == 422
        assert "1 of 2 images" in answer.json()["error"]["message"]
        assert "images[1] (b.jpg)" in answer.json()["error"]["message"]


def test_it_is_off_unless_asked_for(tiny_bundle: Bundle) -> None:
    assert Settings().cache_bytes == 0
    with serving(tiny_bundle, name="forgets") as served:
        for _ in range(2):
            served.client.post("/v1/embed", content=png(1), headers=PNG)
        assert served.model.statistics.inference_count == 2
