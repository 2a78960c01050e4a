"""The Open Inference Protocol over gRPC: tritonclient, sync and asyncio, and the standard health service."""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc")
pytest.importorskip("grpc_health")

import grpc
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.bad_files import bad_files
from tests.server.conftest import GatedEngine, Served, expected, png, serving
from tests.server.process.test_serve import failed, running
from tests.server.test_load import wait_for_metric
from vssl.bundle.reading import Bundle
from vssl.engine import Embeddings
from vssl.images.decoding import decode
from vssl_server.access.keys import Keys
from vssl_server.grpc.calls import SERVICE
from vssl_server.grpc.listening import start
from vssl_server.inference_v2.protocol import Catalogue
from vssl_server.models.registry import ModelRegistry

FILES = [png(shade) for shade in (10, 120, 250)]
NAMES = ("embedding", "variance", "uncertainty")


@contextmanager
def over_grpc(served: Served) -> Iterator[str]:
    """The application's models over gRPC too, on a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    registry: ModelRegistry = served.client.app.state.registry  # type: ignore[attr-defined]
    settings = registry.settings.model_copy(update={"grpc_port": 0})
    starting = start(Catalogue(registry), Keys(settings.api_keys_file, settings.admin_keys_file), settings)
    server, port = asyncio.run_coroutine_threadsafe(starting, loop).result(60)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(60), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def address(served: Served) -> Iterator[str]:
    with over_grpc(served) as here:
        yield here


@pytest.fixture
def remote(address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as made:
        yield made


def pixels(bundle: Bundle, files: list[bytes]) -> triton.InferInput:
    return tensor(np.stack([decode(data, bundle.manifest.preprocessing) for data in files]), "UINT8")


def objects(files: list[bytes]) -> triton.InferInput:
    return tensor(np.array(files, np.object_)[:, None], "BYTES")


def tensor(array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    made = triton.InferInput("image", list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def check(result: Any, truth: Embeddings) -> None:
    for name in NAMES:
        wanted = getattr(truth, name)
        np.testing.assert_allclose(result.as_numpy(name), wanted.reshape(len(wanted), -1), rtol=1e-5, atol=1e-6)


def test_what_the_server_and_its_models_say(remote: triton.InferenceServerClient) -> None:
    assert remote.is_server_live()
    assert remote.is_server_ready()
    said = remote.get_server_metadata()
    assert (said.name, list(said.extensions)) == ("vssl", ["binary_tensor_data", "model_configuration", "statistics"])
    for name, datatype, shape in (("tiny", "UINT8", [-1, 32, 32, 3]), ("tiny_image", "BYTES", [-1, 1])):
        assert remote.is_model_ready(name, "1")
        metadata = remote.get_model_metadata(name)
        assert (metadata.name, list(metadata.versions)) == (name, ["1"])
        assert (metadata.inputs[0].datatype, list(metadata.inputs[0].shape)) == (datatype, shape)
        shapes = {output.name: list(output.shape) for output in metadata.outputs}
        assert shapes == {"embedding": [-1, 16], "variance": [-1, 16], "uncertainty": [-1, 1]}
        config = remote.get_model_config(name).config
        assert (config.name, config.max_batch_size, list(config.input[0].dims)) == (name, 256, shape[1:])
        assert config.HasField("dynamic_batching")


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_pixels_and_image_files(remote: triton.InferenceServerClient, tiny_bundle: Bundle, packed: str | None) -> None:
    for name, image in (("tiny", pixels(tiny_bundle, FILES)), ("tiny_image", objects(FILES))):
        result = remote.infer(name, [image], "1", request_id="seven", compression_algorithm=packed)
        check(result, expected(tiny_bundle, FILES))
        answer = result.get_response()
        assert (answer.model_name, answer.model_version, answer.id) == (name, "1", "seven")
        assert answer.parameters["vssl_bundle"].string_param == tiny_bundle.manifest.id
        config = remote.get_model_config(name).config
        assert config.parameters["vssl_bundle"].string_value == tiny_bundle.manifest.id
        assert [output.name for output in answer.outputs] == list(NAMES)


def test_only_the_chosen_outputs(remote: triton.InferenceServerClient, tiny_bundle: Bundle) -> None:
    outputs = [triton.InferRequestedOutput("uncertainty"), triton.InferRequestedOutput("embedding")]
    result = remote.infer("tiny_image", [objects(FILES)], outputs=outputs)
    assert [output.name for output in result.get_response().outputs] == ["uncertainty", "embedding"]
    np.testing.assert_allclose(result.as_numpy("embedding"), expected(tiny_bundle, FILES).embedding, atol=1e-6)


def test_many_at_once_with_asyncio(address: str, tiny_bundle: Bundle) -> None:
    async def ask() -> list[Any]:
        async with triton_aio.InferenceServerClient(address) as client:
            assert await client.is_model_ready("tiny")
            asked = [client.infer("tiny", [pixels(tiny_bundle, FILES)])]
            asked += [client.infer("tiny_image", [objects(FILES)]) for _ in range(7)]
            return list(await asyncio.gather(*asked))

    for result in asyncio.run(ask()):
        check(result, expected(tiny_bundle, FILES))


def test_values_in_the_message_itself(address: str, tiny_bundle: Bundle) -> None:
    """What a client without raw contents sends, grpcurl for instance."""
    truth = expected(tiny_bundle, FILES[:1])
    image = decode(FILES[0], tiny_bundle.manifest.preprocessing)
    with grpc.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for name, shape, datatype, contents in (
            ("tiny", [1, 32, 32, 3], "UINT8", {"uint_contents": image.ravel().tolist()}),
            ("tiny_image", [1, 1], "BYTES", {"bytes_contents": [FILES[0]]}),
        ):
            given = {"name": "image", "shape": shape, "datatype": datatype, "contents": contents}
            answer = stub.ModelInfer(service_pb2.ModelInferRequest(model_name=name, inputs=[given]))
            np.testing.assert_array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4"), truth.embedding[0])


def refused(call: Any, code: str, why: str) -> None:
    with pytest.raises(InferenceServerException, match=why) as raised:
        call()
    assert raised.value.status() == f"StatusCode.{code}"


def test_errors_have_grpcs_codes_and_our_messages(remote: triton.InferenceServerClient, tiny_bundle: Bundle) -> None:
    good = pixels(tiny_bundle, FILES)
    refused(lambda: remote.infer("none", [good]), "NOT_FOUND", "no model 'none'; served here: tiny, tiny_image")
    refused(lambda: remote.infer("tiny", [good], "2"), "NOT_FOUND", "version 1, not 2")
    refused(lambda: remote.get_model_metadata("none"), "NOT_FOUND", "no model")
    refused(lambda: remote.infer("tiny", [good, good]), "INVALID_ARGUMENT", "one input, image")
    small = tensor(np.zeros((1, 8, 8, 3), np.uint8), "UINT8")
    refused(lambda: remote.infer("tiny", [small]), "INVALID_ARGUMENT", r"not UINT8 \[N, 32, 32, 3\]")
    unknown = [triton.InferRequestedOutput("logits")]
    refused(lambda: remote.infer("tiny", [good], outputs=unknown), "INVALID_ARGUMENT", "no output 'logits'")
    bad = objects([FILES[0], bad_files()["text.jpg"]])
    refused(lambda: remote.infer("tiny_image", [bad]), "INVALID_ARGUMENT", r"1 of 2 images .*image\[1\]: ")
    refused(lambda: remote.infer("tiny_image", [objects(FILES * 86)]), "INVALID_ARGUMENT", "258 images, over the limit")
    none = tensor(np.zeros((0, 32, 32, 3), np.uint8), "UINT8")
    refused(lambda: remote.infer("tiny", [none]), "INVALID_ARGUMENT", "no images")
    refused(lambda: remote.get_model_repository_index(), "UNIMPLEMENTED", "RepositoryIndex is not supported")
    refused(lambda: remote.get_system_shared_memory_status(), "UNIMPLEMENTED", "shared memory is not supported")
    refused(lambda: remote.get_trace_settings(), "UNIMPLEMENTED", "TraceSetting is not supported")
    classes = [triton.InferRequestedOutput("embedding", class_count=3)]
    refused(lambda: remote.infer("tiny", [good], outputs=classes), "INVALID_ARGUMENT", "classification is not")
    shared = triton.InferRequestedOutput("embedding")
    shared.set_shared_memory("region", 128)
    refused(lambda: remote.infer("tiny", [good], outputs=[shared]), "INVALID_ARGUMENT", "embedding: shared memory is")
    given = triton.InferInput("image", [1, 32, 32, 3], "UINT8")
    given.set_shared_memory("region", 3072)
    refused(lambda: remote.infer("tiny", [given]), "INVALID_ARGUMENT", "image: shared memory is not supported")
    assert not remote.is_model_ready("none")
    assert not remote.is_model_ready("tiny", "2")


def test_an_error_however_long_is_the_error(address: str) -> None:
    """Of more than 8 KiB of metadata a client makes RESOURCE_EXHAUSTED, which says: try again."""
    long = "\u732b" * 100_000  # nine bytes each in metadata
    asked = [
        service_pb2.ModelInferRequest(model_name=long),
        service_pb2.ModelInferRequest(model_name="tiny", model_version=long),
        service_pb2.ModelInferRequest(model_name="tiny", inputs=[{"name": long}]),
        service_pb2.ModelInferRequest(model_name="tiny", inputs=[{"name": "image", "datatype": long}]),
        service_pb2.ModelInferRequest(model_name="tiny", outputs=[{"name": long}]),
        service_pb2.ModelInferRequest(model_name="tiny", outputs=[{"name": "embedding"}] * 100_000),
        service_pb2.ModelInferRequest(model_name="tiny", inputs=[{"name": "image", "shape": [1] * 100_000}]),
    ]
    bad = {"name": "image", "shape": [256, 1], "datatype": "BYTES", "contents": {"bytes_contents": [b"text"] * 256}}
    asked.append(service_pb2.ModelInferRequest(model_name="tiny_image", inputs=[bad]))
    with grpc.insecure_channel(address) as channel:
        for one in asked:
            with pytest.raises(grpc.RpcError) as raised:
                service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(one)
            assert raised.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            assert 0 < len(raised.value.details().encode()) <= 2000
        with pytest.raises(grpc.RpcError) as raised:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=long))
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("shape", [[1, 32, 32, 3], [-1, 32, 32, 3], [2**62, 32, 32, 3], []])
def test_shapes_that_lie(address: str, shape: list[int]) -> None:
    given = {"name": "image", "shape": shape, "datatype": "UINT8"}
    for raw in ([b"\1" * 3071], [], [b"", b""]):
        asked = service_pb2.ModelInferRequest(model_name="tiny", inputs=[given], raw_input_contents=raw)
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError) as raised:
            service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(asked)
        assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("packed", [None, "gzip"])
def test_a_message_over_the_limit_packed_or_not(tiny_bundle: Bundle, packed: str | None) -> None:
    with (
        serving(tiny_bundle, name="limited", max_body_bytes=10_000) as served,
        over_grpc(served) as address,
        triton.InferenceServerClient(address) as remote,
    ):
        zeros = tensor(np.zeros((100, 32, 32, 3), np.uint8), "UINT8")
        refused(lambda: remote.infer("limited", [zeros], compression_algorithm=packed), "RESOURCE_EXHAUSTED", "larger")
        assert served.model.statistics.inference_count == 0


def test_overload_deadline_cancellation_and_draining(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "loaded", queue_images=3, max_images=3, deadline_seconds=1) as served,
        over_grpc(served) as address,
        triton.InferenceServerClient(address) as remote,
    ):
        asked = [objects(FILES)]
        with served.model.batcher.admit(1):
            refused(lambda: remote.infer("loaded_image", asked), "RESOURCE_EXHAUSTED", "busy")
        refused(lambda: remote.infer("loaded_image", asked), "DEADLINE_EXCEEDED", "no answer within 1 seconds")
        engine.entered.acquire()
        refused(
            lambda: remote.infer("loaded_image", asked, client_timeout=0.1), "DEADLINE_EXCEEDED", "Deadline|no answer"
        )
        wait_for_metric(served, 'vssl_queue_images{model="loaded",version="1"} 0.0')
        engine.let.release(100)
        served.client.app.state.registry.draining = True  # type: ignore[attr-defined]
        assert remote.is_server_live()
        assert not remote.is_server_ready()
        assert not remote.is_model_ready("loaded")
        refused(lambda: remote.infer("loaded_image", asked), "UNAVAILABLE", "draining")
    assert sum(map(len, engine.batches)) == 3


def test_deadlines_of_the_requests_own(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "hurry too") as served,
        over_grpc(served) as address,
        triton.InferenceServerClient(address) as remote,
        grpc.insecure_channel(address) as channel,
    ):
        asked = [objects(FILES)]
        late = "no answer within 0.05 seconds"
        refused(lambda: remote.infer("hurry too_image", asked, timeout=50_000), "DEADLINE_EXCEEDED", late)
        wait_for_metric(served, 'vssl_queue_images{model="hurry too",version="1"} 0.0')
        refused(
            lambda: remote.infer("hurry too_image", asked, client_timeout=0.1),
            "DEADLINE_EXCEEDED",
            "Deadline|no answer",
        )
        wait_for_metric(served, 'vssl_queue_images{model="hurry too",version="1"} 0.0')
        engine.let.release(100)
        check(
            remote.infer("hurry too_image", asked, timeout=60_000_000, client_timeout=60), expected(tiny_bundle, FILES)
        )
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for wrong in ({"int64_param": -1}, {"string_param": "soon"}, {"bool_param": True}):
            wanted = service_pb2.ModelInferRequest(model_name="hurry too", parameters={"timeout": wrong})
            with pytest.raises(grpc.RpcError, match="microseconds") as raised:
                stub.ModelInfer(wanted)
            assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_dead_engine_is_unavailable(tiny_bundle: Bundle) -> None:
    def dies(images: Any) -> Embeddings:
        if images.any():
            raise SystemExit("the device is gone")
        size = len(images)
        return Embeddings(np.ones((size, 16), np.float32), np.ones((size, 16), np.float32), np.ones(size, np.float32))

    with (
        serving(tiny_bundle, dies, "gone too") as served,
        over_grpc(served) as address,
        triton.InferenceServerClient(address) as remote,
    ):
        refused(lambda: remote.infer("gone too_image", [objects(FILES)]), "UNAVAILABLE", "engine has stopped")
        assert not remote.is_server_ready()


def test_the_health_service(tiny_bundle: Bundle) -> None:
    with (
        serving(tiny_bundle, name="healthy") as served,
        over_grpc(served) as address,
        grpc.insecure_channel(address) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE):
            asked = health_pb2.HealthCheckRequest(service=name)
            assert stub.Check(asked).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as raised:
            stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        served.client.app.state.registry.draining = True  # type: ignore[attr-defined]
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert list(watch) == []
        assert stub.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.NOT_SERVING


def test_statistics_and_metrics(tiny_bundle: Bundle) -> None:
    with (
        serving(tiny_bundle, name="told") as served,
        over_grpc(served) as address,
        triton.InferenceServerClient(address) as remote,
    ):
        remote.infer("told", [pixels(tiny_bundle, FILES)])
        [stats] = remote.get_inference_statistics("told", "1").model_stats
        assert (stats.name, stats.inference_count, stats.execution_count) == ("told", 3, 1)
        assert stats.inference_stats.success.count == 1
        assert 0 < stats.inference_stats.compute_infer.ns < stats.inference_stats.success.ns
        assert {stats.name for stats in remote.get_inference_statistics().model_stats} == {"told", "told_image"}
        shown = served.client.get("/metrics").text
    assert f'vssl_requests_total{{path="/{SERVICE}/ModelInfer",status="OK"}}' in shown
    for stage in ("queue", "inference", "encode"):
        assert f'vssl_{stage}_duration_seconds_count{{model="told"}} 1.0' in shown


def test_the_parts_of_a_requests_time(address: str, tiny_bundle: Bundle) -> None:
    asked = service_pb2.ModelInferRequest(
        model_name="tiny_image",
        inputs=[{"name": "image", "shape": [1, 1], "datatype": "BYTES", "contents": {"bytes_contents": [FILES[0]]}}],
    )
    with grpc.insecure_channel(address) as channel:
        infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        _, call = infer.with_call(asked, metadata=[("x-request-id", "seven")])
    told = dict(call.trailing_metadata())
    assert told["x-request-id"] == "seven"
    spent = {part.split(";dur=")[0]: float(part.split(";dur=")[1]) for part in told["server-timing"].split(", ")}
    assert set(spent) == {"total", "queue", "inference"}
    assert spent["total"] >= spent["queue"] + spent["inference"] > 0


def test_the_command_listens_answers_and_ends(tiny_bundle: Bundle) -> None:
    with running(tiny_bundle.location, "--grpc-port", "0") as server:
        http, _, address = server.line.removeprefix("vssl: serving tiny on ").strip().partition(" and grpc://")
        assert http.startswith("http://127.0.0.1:")
        with triton.InferenceServerClient(address) as remote:
            check(remote.infer("tiny_image", [objects(FILES)]), expected(tiny_bundle, FILES))
        assert server.stop(signal.SIGTERM) == ""


def test_what_is_in_flight_when_the_server_is_told_to_stop_is_answered(tiny_bundle: Bundle) -> None:
    engine = GatedEngine(tiny_bundle)
    with (
        serving(tiny_bundle, engine, "leaving") as served,
        ThreadPoolExecutor() as pool,
        over_grpc(served) as address,
        triton.InferenceServerClient(address) as remote,
    ):
        future = pool.submit(remote.infer, "leaving_image", [objects(FILES)])
        engine.entered.acquire()
        served.client.app.state.registry.draining = True  # type: ignore[attr-defined]
        engine.let.release(100)
        check(future.result(60), expected(tiny_bundle, FILES))


def test_a_busy_port_is_one_line(tiny_bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, written = failed(tiny_bundle.location, "--port", "0", "--grpc-port", port)
    assert status == 1
    assert f"can't listen for gRPC on 127.0.0.1, port {port}" in written
