"""The Triton model repository: what is written, and that a real Triton answers from it as the bare session does."""

import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from PIL import ExifTags, Image
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelInstanceGroup
from tritonclient.utils import InferenceServerException

from tests.command_line import vssl_here
from tests.core.samples import encoded, fashion, noise
from tests.export.triton_server import Triton, TritonFailedError, running
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle
from vssl.engine import OUTPUTS, Embeddings, Engine
from vssl.errors import UsageError
from vssl.images.decoding import decode
from vssl_client.client import Client
from vssl_export.triton.repository import write_repository

VSSL = Path(sys.executable).parent / "vssl"
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def repository(exported: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("triton") / "models"
    vssl_here("export", exported.location, "--triton", root)
    return root


def versioned(bundle: Bundle, version: str) -> Bundle:
    return Bundle(bundle.manifest.model_copy(update={"version": version}), bundle.location)


def config(root: Path, model: str) -> ModelConfig:
    return text_format.Parse((root / model / "config.pbtxt").read_text(), ModelConfig())


def test_the_repository_has_three_models_in_versioned_folders(repository: Path, exported: Bundle) -> None:
    files = {path.relative_to(repository).as_posix() for path in repository.rglob("*") if path.is_file()}
    assert {name for name in files if not name.endswith(".keep")} == {
        "fashion/config.pbtxt",
        "fashion/1/model.onnx",
        "fashion_preprocessing/config.pbtxt",
        "fashion_preprocessing/1/model.py",
        "fashion_preprocessing/1/preprocessing.py",
        "fashion_image/config.pbtxt",
    }
    assert (repository / "fashion_image" / "1").is_dir()
    assert (repository / "fashion" / "1" / "model.onnx").read_bytes() == exported.read("model.onnx")


@pytest.mark.parametrize("gpu", [False, True])
def test_configurations_are_valid_and_say_what_the_bundle_says(tiny_bundle: Bundle, tmp_path: Path, gpu: bool) -> None:
    assert write_repository(tiny_bundle, tmp_path, gpu) == ["tiny", "tiny_preprocessing", "tiny_image"]
    encoder, image = config(tmp_path, "tiny"), config(tmp_path, "tiny_image")
    assert encoder.backend == "onnxruntime"
    assert [(tensor.name, list(tensor.dims)) for tensor in encoder.input] == [("image", [32, 32, 3])]
    assert [tensor.name for tensor in encoder.output] == list(OUTPUTS) == [tensor.name for tensor in image.output]
    assert encoder.dynamic_batching.default_queue_policy.max_queue_size > 0
    assert [warm.batch_size for warm in encoder.model_warmup] == [1, encoder.max_batch_size]
    assert encoder.instance_group[0].kind == (ModelInstanceGroup.KIND_GPU if gpu else ModelInstanceGroup.KIND_CPU)
    accelerators = encoder.optimization.execution_accelerators.gpu_execution_accelerator
    assert [accelerator.name for accelerator in accelerators] == (["tensorrt"] if gpu else [])
    if gpu:
        assert accelerators[0].parameters["trt_profile_max_shapes"] == f"image:{encoder.max_batch_size}x32x32x3"
    for told in (encoder, image):
        assert told.parameters["vssl_bundle"].string_value == tiny_bundle.manifest.id
    assert [step.model_name for step in image.ensemble_scheduling.step] == ["tiny_preprocessing", "tiny"]


@pytest.mark.parametrize(("gpu", "served"), [(False, "model.onnx"), (True, "model.fp16.onnx")])
def test_gpus_get_the_half_precision_model(precise: Bundle, tmp_path: Path, gpu: bool, served: str) -> None:
    write_repository(precise, tmp_path, gpu)
    assert (tmp_path / "precise" / "1" / "model.onnx").read_bytes() == precise.read(served)


def test_a_later_version_goes_beside_the_earlier(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    for version in ("1", "2", "2"):
        write_repository(versioned(tiny_bundle, version), tmp_path)
    assert sorted(path.name for path in (tmp_path / "tiny").iterdir()) == ["1", "2", "config.pbtxt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "tiny", "tiny_image", "tiny_preprocessing"]


def test_what_is_not_tritons_is_left_alone(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "tiny_image").mkdir()
    (tmp_path / "tiny_image" / "cat.jpg").write_bytes(b"mine")
    with pytest.raises(UsageError, match="tiny_image: exists and is not a Triton model"):
        write_repository(tiny_bundle, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["tiny_image", "cat.jpg"]


@pytest.mark.parametrize("version", ["1.2", "0", "v1"])
def test_a_version_that_triton_has_not(tiny_bundle: Bundle, tmp_path: Path, version: str) -> None:
    with pytest.raises(UsageError, match=f"whole numbers from 1, this bundle's is '{version}'"):
        write_repository(versioned(tiny_bundle, version), tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_run_goes_to_triton_without_a_bundle_on_the_way(finished_run: Path, tmp_path: Path) -> None:
    vssl_here("export", finished_run, "--triton", tmp_path / "models", "--name", "m", "--model-version", "3")
    assert (tmp_path / "models" / "m" / "3" / "model.onnx").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_flags_that_do_not_go_together(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "bundle")]
    cases: list[list[str]] = [[], ["--gpu", *out], ["--triton", str(tmp_path / "models"), *out]]
    for arguments in cases:
        done = vssl_here("export", tiny_bundle.location, *arguments, status=2)
        assert "--out" in done.stderr or "--triton" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def triton(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Triton]:
    with running(repository, tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """JPEGs of several sizes, as cameras and programs write them."""
    return [encoded(image, "JPEG") for side in (28, 57, 200) for image in fashion(3, side)]


def ask(server: Triton, protocol: str, model: str, value: npt.NDArray[np.generic]) -> Embeddings:
    """One request by Triton's own client."""
    library = tritonclient.http if protocol == "http" else tritonclient.grpc
    with library.InferenceServerClient(server.http if protocol == "http" else server.grpc) as client:
        tensor = library.InferInput("image", value.shape, "UINT8" if value.dtype == np.uint8 else "BYTES")
        tensor.set_data_from_numpy(value)
        answer = client.infer(model, [tensor])
        embedding, variance, uncertainty = (answer.as_numpy(name) for name in OUTPUTS)
    return Embeddings(embedding, variance, uncertainty.reshape(-1))  # [N, 1] in Triton


def assert_same(ours: Embeddings, expected: Embeddings) -> None:
    for name in OUTPUTS:
        np.testing.assert_allclose(getattr(ours, name), getattr(expected, name), atol=1e-5)


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("count", [1, 3, 32])
def test_real_triton_answers_tensors_as_the_bare_session(
    triton: Triton, exported: Bundle, protocol: str, count: int
) -> None:
    pixels = fashion(count, 32)
    assert_same(ask(triton, protocol, "fashion", pixels), Engine(exported)(pixels))


@pytest.mark.triton
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_real_triton_answers_jpegs_as_the_bare_session(
    triton: Triton, exported: Bundle, protocol: str, photos: list[bytes]
) -> None:
    pixels = np.stack([decode(photo, exported.manifest.preprocessing) for photo in photos])
    column = np.array(photos, dtype=object)[:, None]
    assert_same(ask(triton, protocol, "fashion_image", column), Engine(exported)(pixels))


@pytest.mark.triton
def test_real_triton_and_our_server_answer_one_client_alike(
    triton: Triton, exported: Bundle, photos: list[bytes]
) -> None:
    column = np.array(photos, dtype=object)[:, None]
    command = [str(VSSL), "serve", str(exported.location), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = next(line for line in process.stderr if "serving" in line)
            ours = Triton(line.split("http://")[1].strip(), "", "")
            assert_same(ask(ours, "http", "fashion_image", column), ask(triton, "http", "fashion_image", column))
        finally:
            process.terminate()


@pytest.mark.triton
def test_real_triton_takes_a_bare_jpeg_as_the_body(triton: Triton, photos: list[bytes]) -> None:
    url = f"http://{triton.http}/v2/models/fashion_image/infer"
    request = urllib.request.Request(url, data=photos[0], headers={"Inference-Header-Content-Length": "0"})
    with urllib.request.urlopen(request) as response:
        assert response.status == 200
        assert b'"name":"uncertainty"' in response.read()


@pytest.mark.triton
def test_real_triton_names_the_bad_image_and_lives_on(triton: Triton, photos: list[bytes]) -> None:
    column = np.array([photos[0], b"no image"], dtype=object)[:, None]
    with pytest.raises(InferenceServerException, match="image 1: the data are none of JPEG"):
        ask(triton, "http", "fashion_image", column)
    assert len(ask(triton, "http", "fashion_image", column[:1])) == 1


@pytest.mark.triton
def test_real_triton_counts_in_its_metrics(triton: Triton, photos: list[bytes]) -> None:
    def counted() -> float:
        with urllib.request.urlopen(f"http://{triton.metrics}/metrics") as response:
            text = response.read().decode()
        pattern = r'^nv_inference_count\{model="fashion_image",version="1"\} (\S+)$'
        found = re.search(pattern, text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    before = counted()
    ask(triton, "grpc", "fashion_image", np.array(photos[:4], dtype=object)[:, None])
    end = time.monotonic() + 60  # it answers first and counts then
    while counted() < before + 4 and time.monotonic() < end:
        time.sleep(0.01)
    assert counted() == before + 4


@pytest.mark.triton
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("dims: [ 32, 32, 3 ]", "dims: [ 64, 64, 3 ]", "model.onnx has"),
        ("max_batch_size", "most_images", "Error parsing text-format"),
        ("KIND_CPU", "KIND_GPU", "no GPUs are available"),
    ],
)
def test_real_triton_refuses_a_broken_configuration(
    repository: Path, tmp_path: Path, right: str, wrong: str, message: str
) -> None:
    broken = tmp_path / "models"
    shutil.copytree(repository, broken)
    path = broken / "fashion" / "config.pbtxt"
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    with pytest.raises(TritonFailedError, match=message), running(broken, tmp_path):
        pass


@pytest.mark.triton
def test_real_triton_serves_the_newest_version(exported: Bundle, tmp_path: Path) -> None:
    root = tmp_path / "models"
    for version in ("1", "2"):
        write_repository(versioned(exported, version), root)
    with running(root, tmp_path) as server, tritonclient.http.InferenceServerClient(server.http) as client:
        assert client.is_model_ready("fashion_image", "2")
        assert not client.is_model_ready("fashion_image", "1")


@pytest.mark.triton
@pytest.mark.parametrize("transport", ["triton", "grpc"])
def test_our_client_takes_real_triton_for_a_server(
    triton: Triton, exported: Bundle, transport: Literal["triton", "grpc"], photos: list[bytes]
) -> None:
    """More images than the model takes at once, a bad one among them; and pixels, by the preprocessing it tells."""
    pixels = np.stack([decode(photo, exported.manifest.preprocessing) for photo in photos * 5])
    expected = Engine(exported)(pixels)
    url = triton.http if transport == "triton" else triton.grpc
    for locally in (False, True):
        with Client(url, transport=transport, model="fashion", resize_locally=locally) as client:
            told = client.model()
            assert (told.id, told.dimension) == (exported.manifest.id, exported.manifest.outputs.dimension)
            assert told.preprocessing == exported.manifest.preprocessing
            result = client.embed([*photos, b"text", *photos * 4], on_error="return")
        assert [error.type for error in result.errors if error] == ["not_an_image"]
        good = result[result.ok]
        assert_same(Embeddings(good.embedding, good.variance, good.uncertainty), expected)


@pytest.mark.triton
def test_real_triton_pads_and_scales_as_the_manifest_says(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", crop=0.9, fit="pad", decoder="scaled-1")
    how, root = bundle.manifest.preprocessing, tmp_path / "models"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    photo = encoded(noise(301, 203), "JPEG", exif=exif)
    expected = Engine(bundle)(decode(photo, how)[None])
    write_repository(bundle, root)
    with running(root, tmp_path) as server:
        for locally in (False, True):
            with Client(server.http, transport="triton", model="tiny", resize_locally=locally) as client:
                assert (client.model().preprocessing, client.model().encoder_id) == (how, bundle.encoder_id)
                found = client.embed([photo])
            assert_same(Embeddings(found.embedding, found.variance, found.uncertainty), expected)
