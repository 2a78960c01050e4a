"""Jobs over HTTP: what they do, how they fail, and what is left when the process ends in the middle of one."""

import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from tests.gallery.samples import some_rows
from tests.server.http.galleries.conftest import ended, filled, galleries_of, with_galleries
from tests.server.http.test_errors import error
from tests.server.process.test_serve import running
from vssl.bundle.reading import Bundle
from vssl_gallery.gallery import Gallery
from vssl_gallery.store.contract import Spec
from vssl_gallery.store.opening import open_place
from vssl_server.background.jobs import Job
from vssl_server.http.galleries import upkeep

SHOES = "/v1/galleries/shoes"


def state_of(client: Any, job: dict[str, Any]) -> str:
    state: str = client.get(f"/v1/jobs/{job['id']}").json()["state"]
    return state


def test_calibration_and_maintenance(client: TestClient) -> None:
    gallery = filled(client, "shoes", 200)
    assert client.get(SHOES).json()["calibration"] == "uncalibrated"
    job = ended(client, client.post(f"{SHOES}/calibrate"))
    assert (job["state"], job["kind"], job["gallery"], job["error"]) == ("done", "calibrate", "shoes", None)
    record, _ = gallery.calibration()
    assert record is not None
    state = {"version": gallery.store.version(), "rows": record.gallery.images, "classes": 3}
    assert job["result"] == pytest.approx({**state, **record.gallery.measured})
    assert client.get(SHOES).json()["calibration"] == "fitted"
    job = ended(client, client.post(f"{SHOES}/maintain", json={}))
    assert job["result"]["rows"] == 200
    assert any("compacted" in line for line in job["result"]["actions"])
    error(client.post(f"{SHOES}/calibrate", json={"k": 3}), 422, "invalid_option")


def test_a_failed_job_says_why(client: TestClient) -> None:
    filled(client, "bare", 0)
    job = ended(client, client.post("/v1/galleries/bare/calibrate"))
    assert (job["state"], job["error"]["code"], job["result"]) == ("failed", "invalid_request", None)
    assert "no row has a label" in job["error"]["message"]
    error(client.get("/v1/jobs/none"), 404, "unknown_job")


def test_a_job_is_stopped(client: TestClient) -> None:
    filled(client, "stopped", 400)
    held = threading.Event()
    before = Job("restore", "stopped", "admin")  # so that the next one waits
    galleries_of(client).jobs.submit(before, lambda _: {"waited": held.wait(60)})
    waiting = client.post("/v1/galleries/stopped/calibrate").json()["job"]
    assert client.delete(f"/v1/jobs/{waiting['id']}").json()["state"] == "cancelled"
    drawing = client.post("/v1/galleries/stopped/map").json()["job"]
    held.set()
    while not (now := client.get(f"/v1/jobs/{drawing['id']}").json())["progress"]:
        assert now["state"] in ("queued", "running")
    client.delete(f"/v1/jobs/{drawing['id']}")
    while state_of(client, drawing) == "running":
        time.sleep(0.01)
    assert state_of(client, drawing) == "cancelled"
    error(client.get("/v1/galleries/stopped/map?method=tsne"), 404, "no_map")


def test_searches_go_on_beside_a_job(client: TestClient) -> None:
    """The event loop and the store's threads are free while a map is drawn."""
    filled(client, "busy", 500)
    job = client.post("/v1/galleries/busy/map").json()["job"]
    asked = 0
    while state_of(client, job) in ("queued", "running"):
        assert client.get("/v1/galleries/busy").status_code == 200
        asked += 1
    assert asked > 3
    assert state_of(client, job) == "done"


def test_maintenance_comes_by_itself(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "WRITES", 4)
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.02)
    with with_galleries(tiny_bundle, tmp_path, "kept-up") as client:
        gallery = filled(client, "shoes", 1)
        assert not upkeep.due(gallery)
        assert client.get("/v1/jobs").json()["data"] == []
        for number in range(4):
            gallery.add(some_rows(1, number, dimension=gallery.spec.dimension))
        while not any(job["state"] == "done" for job in client.get("/v1/jobs").json()["data"]):
            assert client.get(SHOES).json()["rows"] == 4  # nobody waits
        assert not upkeep.due(gallery)
        job = client.get("/v1/jobs").json()["data"][-1]
        assert (job["kind"], job["gallery"]) == ("maintain", "shoes")


def test_jobs_end_with_their_server(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Told to end, it does not wait for a map of minutes."""
    with with_galleries(tiny_bundle, tmp_path, "ending") as client:
        filled(client, "shoes", 2000)
        drawing, waiting = [client.post(f"{SHOES}/{kind}").json()["job"] for kind in ("map", "maintain")]
        while state_of(client, drawing) == "queued":
            pass
        jobs = galleries_of(client).jobs
        last = [jobs.get(one["id"]) for one in (drawing, waiting)]
    assert last[1].state == "cancelled"
    while not last[0].ended:
        time.sleep(0.01)
    assert last[0].state == "cancelled"


def test_a_server_killed_in_maintenance_loses_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    address = str(tmp_path / "galleries")
    spec = Spec(tiny_bundle.manifest.encoder_id, tiny_bundle.manifest.outputs.dimension)
    with closing(open_place(address)) as place:
        gallery = Gallery.create(place, "shoes", spec)
        for number in range(20):
            gallery.add(some_rows(100, 100 * number, dimension=spec.dimension))
        with (
            running(tiny_bundle.location, "--galleries", address) as server,
            httpx2.Client(base_url=server.url, timeout=60) as client,
        ):
            assert client.get("/v1/jobs").json() == {"data": []}
            job = client.post(f"{SHOES}/maintain").json()["job"]
            while state_of(client, job) == "queued":
                pass
            server.process.kill()
            server.process.wait()
        gallery = Gallery(place.open("shoes"))
        assert gallery.store.count() == 2000
        assert sum(len(batch) for batch in gallery.store.scan(None, ["embedding"])) == 2000
        assert gallery.store.maintain().info.rows == 2000
