"""A server with galleries that is told to end while it is filled: what was acknowledged is there, and nothing else is
half there.
"""

import signal
import threading
from contextlib import closing
from itertools import count
from pathlib import Path

import httpx2

from tests.server.conftest import png
from tests.server.process.test_serve import PNG, running
from vssl.bundle.reading import Bundle
from vssl_gallery.store.opening import open_place


def test_told_to_end_while_it_is_filled(tiny_bundle: Bundle, tmp_path: Path) -> None:
    place = tmp_path / "galleries"
    acknowledged: list[str] = []
    asked: list[str] = []
    some = threading.Event()

    def fill(url: str) -> None:
        """Until the server takes no more."""
        with httpx2.Client(timeout=60) as client:
            for number in count():
                asked.append(str(number))
                try:
                    answer = client.post(f"{url}/images", params={"id": number}, content=png(9), headers=PNG)
                except httpx2.TransportError:
                    return
                if answer.status_code != 200:
                    return
                acknowledged.append(str(number))
                if number == 3:
                    some.set()

    with running(tiny_bundle.location, "--galleries", str(place)) as server:
        url = f"{server.url}/v1/galleries/shoes"
        assert httpx2.put(url, json={}, timeout=60).status_code == 201
        filling = threading.Thread(target=fill, args=(url,))
        filling.start()
        assert some.wait(60)
        assert httpx2.post(f"{url}/maintain", timeout=60).status_code == 202
        assert "Traceback" not in server.stop(signal.SIGTERM)
        filling.join(60)
        assert not filling.is_alive()
    with closing(open_place(str(place))) as opened, closing(opened.open("shoes")) as shoes:
        there = {name for batch in shoes.scan() for name in batch["id"].to_pylist()}
    assert set(acknowledged) <= there <= set(asked)
    with running(tiny_bundle.location, "--galleries", str(place)) as server:
        url = f"{server.url}/v1/galleries/shoes"
        assert httpx2.get(f"{url}/counts").json()["rows"] == len(there)
        again = httpx2.post(f"{url}/images", params={"id": "0"}, content=png(9), headers=PNG, timeout=60)
        assert again.status_code == 200
        assert httpx2.get(f"{url}/counts").json()["rows"] == len(there)
        assert httpx2.get(f"{url}/row", params={"id": "0"}).json()["precision"] == "fp32"
