"""Overload, deadlines, abandoned requests, a dead engine: with an engine that waits for the test, over real TCP."""

import base64
import http.client
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.server.conftest import GatedEngine, Served, expected, over_tcp, png, serving
from tests.server.http.test_errors import error
from vssl.arrays import Pixels
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings, Engine
from vssl_server.engine.health import PROBE_SECONDS

PNG = {"Content-Type": "image/png"}


def post(address: tuple[str, int], data: bytes) -> httpx2.Response:
    return httpx2.post(f"http://{address[0]}:{address[1]}/v1/embed", content=data, headers=PNG, timeout=60)


def value_of(running: Served, series: str) -> float:
    """What a series says now; the tests of one process share the counters."""
    lines = running.client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(series)), 0.0)


def wait_for_metric(running: Served, line: str) -> None:
    """Ask until the line is there; every question is a request of its own, so the loop goes on serving."""
    for _ in range(10_000):
        if line in running.client.get("/metrics").text.splitlines():
            return
    raise AssertionError(f"{line!r} never came")


def test_a_full_queue_answers_429_and_counts_images_not_requests(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with serving(tiny_bundle, engine, "full", queue_images=3, max_images=3) as running, ThreadPoolExecutor() as pool:
        two = pool.submit(running.client.post, "/v1/embed", files=[("images", ("a.png", png(1)))] * 2)
        engine.entered.acquire()
        refused = running.client.post("/v1/embed", files=[("images", ("a.png", png(2)))] * 2)
        failed = error(refused, 429, "queue_full")
        assert "2 of 3 places" in failed["message"]
        assert "queue_full" in refusals(running)
        assert refused.headers["retry-after"] == "1"
        one = pool.submit(running.client.post, "/v1/embed", content=png(3), headers=PNG)
        wait_for_metric(running, 'vssl_queue_images{model="full",version="1"} 3.0')
        alone = running.client.post("/v1/embed", content=png(4), headers=PNG)
        assert error(alone, 429, "queue_full")["message"].startswith("the server is busy: 3 of 3 places")
        assert alone.headers["retry-after"] == "1"
        engine.let.release(2)
        assert (two.result(60).status_code, one.result(60).status_code) == (200, 200)
        wait_for_metric(running, 'vssl_queue_images{model="full",version="1"} 0.0')
        assert running.client.get("/readyz").status_code == 200


def test_requests_under_load_share_batches_and_get_their_own_answers(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    shades = range(20, 40)
    with serving(tiny_bundle, engine, "shared") as running, ThreadPoolExecutor(32) as pool:
        first = pool.submit(running.client.post, "/v1/embed", content=png(1), headers=PNG)
        engine.entered.acquire()
        rest = [pool.submit(running.client.post, "/v1/embed", content=png(shade), headers=PNG) for shade in shades]
        wait_for_metric(running, 'vssl_queue_images{model="shared",version="1"} 21.0')
        engine.let.release(100)
        assert first.result(60).status_code == 200
        answers = [future.result(60).json()["data"][0]["embedding"] for future in rest]
        metrics = running.client.get("/metrics").text.splitlines()
    np.testing.assert_allclose(answers, expected(tiny_bundle, [png(shade) for shade in shades]).embedding, atol=1e-6)
    assert sum(map(len, engine.batches)) == 21
    assert 'vssl_batch_images_sum{model="shared"} 21.0' in metrics
    assert f'vssl_batch_images_count{{model="shared"}} {len(engine.batches)}.0' in metrics
    assert 'vssl_images_total{model="shared",outcome="embedded"} 21.0' in metrics


def test_past_the_deadline_comes_504_and_the_place_is_free_again(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with serving(tiny_bundle, engine, "late", deadline_seconds=0.2) as running:
        failed = error(running.client.post("/v1/embed", content=png(1), headers=PNG), 504, "deadline_exceeded")
        assert "0.2 seconds" in failed["message"]
        assert "deadline_exceeded" in refusals(running)
        assert running.model.batcher.in_flight == 0
        engine.let.release(100)


BASE64 = base64.b64encode(png(1)).decode()
TENSOR = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "data": [BASE64]}
DOORS: dict[str, dict[str, Any]] = {
    "/v1/embed": {"content": png(1), "headers": PNG},
    "/v1/embeddings": {"json": {"model": "hurried", "input": BASE64}},
    "/v2/models/hurried_image/infer": {"json": {"inputs": [TENSOR]}},
}


def test_a_request_may_have_a_deadline_of_its_own_that_only_shortens_the_servers(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)

    def answer(path: str, seconds: str) -> tuple[int, str]:
        request = DOORS[path]
        headers = request.get("headers", {}) | {"VSSL-Timeout": seconds}
        answer = running.client.post(path, **(request | {"headers": headers}))
        return answer.status_code, answer.text

    with serving(tiny_bundle, engine, "hurried", deadline_seconds=0.5) as running:
        for path in DOORS:
            for seconds, limit in (("0.25", "0.25 seconds"), ("60", "0.5 seconds")):
                status, text = answer(path, seconds)
                assert (status, limit in text) == (504, True)
                if engine.entered.acquire(timeout=2):  # not when its time was over before it came so far
                    engine.let.release()
            for wrong in ("soon", "0", "-1", "nan", "inf", ""):
                status, text = answer(path, wrong)
                assert (status, "VSSL-Timeout must be a number of seconds over 0" in text) == (400, True)
        assert running.model.batcher.in_flight == 0
        engine.let.release(100)
        assert [answer(path, "60")[0] for path in DOORS] == [200] * len(DOORS)


def test_a_request_whose_client_went_away_is_not_computed(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "gone") as running,
        over_tcp(running.client.app) as address,
        ThreadPoolExecutor() as pool,
    ):
        first = pool.submit(post, address, png(1))
        engine.entered.acquire()
        abandoned = http.client.HTTPConnection(*address)
        abandoned.request("POST", "/v1/embed", png(2), PNG)
        wait_for_metric(running, 'vssl_queue_images{model="gone",version="1"} 2.0')
        gone = 'vssl_requests_total{path="/v1/embed",status="499"}'
        before = value_of(running, gone)
        abandoned.close()
        wait_for_metric(running, f"{gone} {before + 1}")
        wait_for_metric(running, 'vssl_queue_images{model="gone",version="1"} 1.0')
        last = pool.submit(post, address, png(3))
        wait_for_metric(running, 'vssl_queue_images{model="gone",version="1"} 2.0')
        engine.let.release(100)
        assert (first.result(60).status_code, last.result(60).status_code) == (200, 200)
    assert sum(map(len, engine.batches)) == 2


def test_a_dead_engine_turns_readiness_red_and_nobody_waits_for_it(tiny_bundle: Bundle) -> None:
    engine = Engine(tiny_bundle)

    def dies(images: Pixels) -> Embeddings:
        if images.any():
            raise SystemExit("the device is gone")
        return engine(images)

    with serving(tiny_bundle, dies, "dead") as running:
        assert running.client.get("/readyz").status_code == 200
        error(running.client.post("/v1/embed", content=png(1), headers=PNG), 503, "not_ready")
        ready = running.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "unavailable", "failed": ["dead 1"]})
        assert running.client.get("/healthz").json() == {"status": "ok"}
        answer = running.client.post("/v1/embed", content=png(1), headers=PNG)
        error(answer, 503, "not_ready")
        assert answer.headers["retry-after"] == f"{PROBE_SECONDS:.0f}"
        assert 'vssl_ready{model="dead",version="1"} 0.0' in running.client.get("/metrics").text


def test_draining_turns_readiness_red_and_takes_no_more(tiny_bundle: Bundle) -> None:
    with serving(tiny_bundle, name="draining") as running:
        running.client.app.state.registry.draining = True  # type: ignore[attr-defined]
        ready = running.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"status": "draining"})
        error(running.client.post("/v1/embed", content=png(1), headers=PNG), 503, "not_ready")


def test_health_answers_while_every_thread_is_busy(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with serving(tiny_bundle, engine, "busy", decode_threads=1) as running, ThreadPoolExecutor() as pool:
        future = pool.submit(running.client.post, "/v1/embed", content=png(1), headers=PNG)
        engine.entered.acquire()
        assert running.client.get("/healthz").status_code == 200
        assert running.client.get("/v1/models").status_code == 200
        engine.let.release()
        assert future.result(60).status_code == 200


@pytest.mark.parametrize("path", ["/v1/embed?x=1", "/elsewhere", "/v1/embed/secret", "/v2/models/secret"])
def test_paths_that_clients_make_up_make_no_new_series(served: Served, path: str) -> None:
    served.client.get(path)
    lines = served.client.get("/metrics").text.splitlines()
    paths = {line.split('path="')[1].split('"')[0] for line in lines if line.startswith("vssl_requests_total{")}
    assert {"/v1/embed", "other"} & paths
    assert not any(made_up in shown for shown in paths for made_up in ("?", "elsewhere", "secret"))


@pytest.mark.parametrize(("most", "sizes"), [(1, [1]), (32, [1, 2, 4, 8, 16, 32]), (24, [1, 2, 4, 8, 16, 24])])
def test_the_warm_up_runs_every_size_that_is_one_to_a_gpu(tiny_bundle: Bundle, most: int, sizes: list[int]) -> None:
    engine, seen = Engine(tiny_bundle), list[int]()

    def noted(images: Pixels) -> Embeddings:
        seen.append(len(images))
        return engine(images)

    with serving(tiny_bundle, noted, "warm", batch_size=most):
        assert [size for size in seen if size] == sizes


def refusals(served: Served) -> dict[str, float]:
    lines = served.client.get("/metrics").text.splitlines()
    found = [line.split('"') for line in lines if line.startswith("vssl_refusals_total{")]
    return {cause: float(count.removeprefix("} ")) for _, cause, count in found}


@pytest.mark.parametrize(
    ("status", "cause", "request_"),
    [
        (400, "invalid_json", {"content": b"{", "headers": {"Content-Type": "application/json"}}),
        (400, "invalid_multipart", {"content": b"", "headers": {"Content-Type": "multipart/form-data"}}),
        (400, "invalid_encoding", {"content": b"x", "headers": PNG | {"Content-Encoding": "gzip"}}),
        (404, "not_found", {"url": "/v1/none"}),
        (404, "model_not_found", {"url": "/v1/embed?model=none", "content": png(1), "headers": PNG}),
        (405, "method_not_allowed", {"url": "/v1/models"}),
        (406, "not_acceptable", {"headers": {"Accept": "text/html"}}),
        (413, "too_many_images", {"json": {"images": ["x"] * 257}}),
        (413, "body_too_large", {"content": b"", "headers": PNG | {"Content-Length": "99999999"}}),
        (415, "unsupported_media_type", {"content": b"x"}),
        (415, "unsupported_encoding", {"content": b"x", "headers": PNG | {"Content-Encoding": "br"}}),
        (422, "invalid_image", {"content": b"x", "headers": PNG}),
        (422, "invalid_option", {"url": "/v1/embed?colour=red"}),
        (422, "no_images", {"json": {"images": []}}),
        (403, "administration_off", {"url": "/v2/repository/index"}),
        (400, "invalid_tensor", {"url": "/v2/models/tiny/infer", "json": {"inputs": []}}),
    ],
)
def test_every_refusal_is_counted_by_its_cause(
    served: Served, status: int, cause: str, request_: dict[str, Any]
) -> None:
    before = refusals(served).get(cause, 0)
    assert served.client.post(**({"url": "/v1/embed"} | request_)).status_code == status
    assert refusals(served)[cause] == before + 1


def test_metrics_are_in_base_units(served: Served) -> None:
    served.client.post("/v1/embed", content=png(1), headers=PNG)
    text = served.client.get("/metrics").text
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE vssl_")}
    assert names == {
        *(
            "vssl_requests_total",
            "vssl_request_duration_seconds",
            "vssl_queue_duration_seconds",
            "vssl_inference_duration_seconds",
        ),
        *("vssl_batch_images", "vssl_images_total", "vssl_queue_images", "vssl_ready"),
        *("vssl_decode_duration_seconds", "vssl_encode_duration_seconds", "vssl_uncertainty", "vssl_refusals_total"),
        *("vssl_model_info", "vssl_engine_threads", "vssl_build_info"),
        *("vssl_decode_queue_tasks", "vssl_pending_pixels", "vssl_event_loop_lag_duration_seconds"),
        *("vssl_log_lines_dropped_total", "vssl_gallery_ready", "vssl_store_duration_seconds"),
        *("vssl_judged_images_total", "vssl_flagged_images_total"),
    }
