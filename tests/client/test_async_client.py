"""The SDK in an event loop: the same answers as the one in threads, and a loop that stays free."""

import asyncio
import gzip
import io
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.bad_files import REASONS, bad_files
from tests.client.conftest import assert_same, oracle, pictures
from tests.client.processes import Fault, proxied
from vssl.bundle.reading import Bundle
from vssl.errors import UsageError
from vssl_client import AsyncClient, ConnectionFailed, EmbeddingResult, ImageRejected, Overloaded
from vssl_client.embedding.contract import OnError
from vssl_client.inputs import ImageInput
from vssl_client.transports import wire


def embed(url: str, images: list[ImageInput], on_error: OnError = "raise", retries: int = 2) -> EmbeddingResult:
    async def run() -> EmbeddingResult:
        async with AsyncClient(url, retries=retries) as client:
            return await client.embed(images, on_error=on_error)

    return asyncio.run(run())


def test_rows_come_in_order_and_are_the_engines(server: str, tiny_bundle: Bundle, tmp_path: Path) -> None:
    images = pictures(200)
    (tmp_path / "a.png").write_bytes(images[0])
    result = embed(server, [tmp_path / "a.png", *images[1:]])
    assert_same(result, oracle(tiny_bundle, images))
    np.testing.assert_array_equal(result.index, np.arange(200))


def test_bad_images_are_returned_skipped_or_raised(server: str, tiny_bundle: Bundle) -> None:
    good = pictures(70)
    images: list[ImageInput] = [*good[:30], *bad_files().values(), *good[30:], Path("nowhere.png")]
    returned, skipped = embed(server, images, "return"), embed(server, images, "skip")
    assert [error.type for error in returned.errors if error] == [*REASONS.values(), "unreadable"]
    assert_same(skipped, oracle(tiny_bundle, good))
    np.testing.assert_array_equal(skipped.index, np.flatnonzero(returned.ok))
    with pytest.raises(ImageRejected) as caught:
        embed(server, images)
    assert caught.value.index == 30


def test_nothing_that_can_be_embedded_gives_no_rows_of_the_right_width(server: str) -> None:
    for images in ([], [b"text"] * 3):
        assert embed(server, [*images], "skip").embedding.shape == (0, 16)
    assert embed(server, [b"text"] * 3, "return").embedding.shape == (3, 16)


def test_a_stream_never_ends_and_takes_no_more_than_it_gives(server: str) -> None:
    file = pictures(1)[0]
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield file

    async def first_rows() -> list[int]:
        async with AsyncClient(server) as client:
            rows: list[int] = []
            async for batch in client.stream(endless()):
                rows += batch.index.tolist()
                if len(rows) > 500:
                    return rows
        return []

    assert asyncio.run(first_rows()) == list(range(512))
    assert taken < 512 + 64 * 10


def test_the_loop_is_free_while_a_server_keeps_it_waiting(server: str) -> None:
    async def run(url: str) -> int:
        beats = 0
        async with AsyncClient(url, timeout=0.5, retries=0) as client:
            waiting = asyncio.create_task(client.model())
            while not waiting.done():
                await asyncio.sleep(0)  # not a time: a busy machine would have few of them
                beats += 1
            with pytest.raises(ConnectionFailed, match="in time"):
                await waiting
        return beats

    with proxied(server) as (proxy, url):
        proxy.always = "hang"
        assert asyncio.run(run(url)) > 3


def test_what_passes_is_tried_again(server: str, tiny_bundle: Bundle, impatient: None) -> None:
    images = pictures(10)
    with proxied(server) as (proxy, url):
        faults: list[Fault] = [(503, {"Retry-After": "0"}), "drop", (500, {})]
        for fault in faults:
            proxy.faults.put(fault)
        assert_same(embed(url, [*images], retries=3), oracle(tiny_bundle, images))
        proxy.always = (429, {"Retry-After": "0"})
        with pytest.raises(Overloaded):
            embed(url, [*images])


def test_a_cancelled_call_leaves_a_client_that_works(server: str, tiny_bundle: Bundle) -> None:
    images = pictures(5)

    async def run(url: str, released: Iterator[None]) -> EmbeddingResult:
        async with AsyncClient(url) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.embed(images)
            next(released)
            return await client.embed(images)

    with proxied(server) as (proxy, url):
        proxy.always = "hang"

        def release() -> Iterator[None]:
            proxy.always = None
            yield

        assert_same(asyncio.run(run(url, release())), oracle(tiny_bundle, images))


@pytest.mark.parametrize("way", ["http", "triton"])
def test_no_heavy_work_is_done_in_the_loop(
    way: Any, server: str, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures are copied, bodies made and packed, and answers read in other threads."""
    if way == "triton":
        pytest.importorskip("tritonclient")
    threads: dict[str, set[str]] = {"copy": set(), "compress": set(), "read": set()}

    class Picture(Image.Image):
        def tobytes(self, *more: Any) -> bytes:
            threads["copy"].add(threading.current_thread().name)
            return Image.Image.tobytes(self, *more)

    def compress(data: bytes, *rest: Any, **more: Any) -> bytes:
        threads["compress"].add(threading.current_thread().name)
        return real(data, *rest, **more)

    def read(*given: Any) -> EmbeddingResult:
        threads["read"].add(threading.current_thread().name)
        return read_embeddings(*given)

    real, read_embeddings = gzip.compress, wire.read_embeddings
    monkeypatch.setattr(gzip, "compress", compress)
    monkeypatch.setattr(wire, "read_embeddings", read)
    picture = Image.open(io.BytesIO(pictures(1)[0]))
    picture.load()
    picture.__class__ = Picture  # type: ignore[assignment]

    async def run() -> EmbeddingResult:
        async with AsyncClient(server, transport=way, model="tiny", compression="gzip") as client:
            return await client.embed([picture])

    assert_same(asyncio.run(run()), oracle(tiny_bundle, pictures(1)))
    used = ["copy", "compress", *(["read"] if way == "http" else [])]
    assert all(threads[name] for name in used)
    assert threading.main_thread().name not in set().union(*threads.values())


def test_a_bundle_is_loaded_in_a_thread(tiny_bundle: Bundle) -> None:
    async def run() -> EmbeddingResult:
        async with AsyncClient(bundle=tiny_bundle.location) as client:
            results = await asyncio.gather(*(client.embed(pictures(2)) for _ in range(3)))
            assert (await client.model()).id == tiny_bundle.manifest.id
            return results[0]

    assert_same(asyncio.run(run()), oracle(tiny_bundle, pictures(2)))

    async def wrong() -> None:
        async with AsyncClient(bundle="nowhere") as client:
            for _ in range(2):
                with pytest.raises(UsageError, match="nowhere: no such bundle"):
                    await client.model()

    asyncio.run(wrong())
