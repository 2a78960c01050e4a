"""What an engine runs on: providers as a machine with a GPU would have them, and which precision they take."""

import importlib.metadata
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime
import pytest

from tests.core.samples import fashion
from tests.tiny_model import SIZE
from vssl.batch_sizes import MAX_BATCH, bucket
from vssl.bound import Bound
from vssl.bundle.reading import Bundle
from vssl.engine import OUTPUTS, PROVIDERS, Engine, provider_options
from vssl.errors import BundleError, UsageError

IMAGES = fashion(24, SIZE)


@pytest.mark.parametrize("images", [1, 3, 24, MAX_BATCH + 3])
def test_what_runs_on_a_gpu_answers_the_same(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
    """The bound and filled-up batches of a GPU, on a session that runs on the CPU for want of one."""
    many = np.resize(IMAGES, (images, SIZE, SIZE, 3))[:, ::-1]
    wanted = Engine(tiny_bundle)(many)
    monkeypatch.setattr(Engine, "providers", ["CUDAExecutionProvider", "CPUExecutionProvider"])
    engine = Engine(tiny_bundle)
    assert isinstance(engine._call, Bound)
    monkeypatch.setattr(engine._call, "_device", "cpu")
    sizes: list[tuple[int, ...]] = []
    update = onnxruntime.OrtValue.update_inplace

    def watched(value: Any, array: np.ndarray[Any, Any]) -> None:
        sizes.append(array.shape)
        update(value, array)

    monkeypatch.setattr(onnxruntime.OrtValue, "update_inplace", watched)
    found = engine(many)
    assert [size[0] for size in sizes] == ([bucket(images)] if images <= MAX_BATCH else [MAX_BATCH, 4])
    assert len(found) == images
    for name in OUTPUTS:
        np.testing.assert_allclose(getattr(found, name), getattr(wanted, name), rtol=1e-5, atol=1e-6)


def test_tensorrt_keeps_its_engine_for_the_user_alone(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The options only: there is no GPU here to build an engine on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = provider_options("TensorrtExecutionProvider", tiny_bundle, "fp32")
    folder = Path(options["trt_engine_cache_path"])

    assert folder.is_relative_to(tmp_path)
    assert folder.stat().st_mode & 0o077 == 0
    assert options["trt_engine_cache_enable"] == options["trt_timing_cache_enable"] == "1"
    assert options["trt_profile_max_shapes"] == f"image:{MAX_BATCH}x32x32x3"
    assert provider_options("CPUExecutionProvider", tiny_bundle, "fp32") == {}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tiny_bundle.location / "model.onnx"))
    assert "trt_engine_cache_enable" not in provider_options("TensorrtExecutionProvider", tiny_bundle, "fp32")
    assert "builds its engine at every start" in caplog.text


def test_a_precision_that_is_not_there(tiny_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no model in fp16; there are fp32"):
        Engine(tiny_bundle, precision="fp16")


@pytest.fixture
def with_fp16(tiny_bundle: Bundle) -> Bundle:
    """The tiny bundle, whose one file is its model in both precisions."""
    models = dict.fromkeys(("fp16", "fp32"), tiny_bundle.manifest.models["fp32"])
    return replace(tiny_bundle, manifest=tiny_bundle.manifest.model_copy(update={"models": models}))


class OfAGpu(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session on the CPU that says it runs on the first provider asked for, and knows what was asked for."""

    asked: ClassVar[list[list[str]]] = []
    broken: ClassVar[set[str]] = set()

    def __init__(self, data: bytes, options: Any, providers: list[tuple[str, Any]], **further: Any) -> None:
        names = [name for name, _ in providers]
        self.asked.append(names)
        if self.broken & set(names):
            raise RuntimeError("no plan can be built\nwith a second line")
        self._first = names[0]
        super().__init__(data, options, providers=["CPUExecutionProvider"], **further)

    def get_providers(self) -> list[str]:
        return [self._first, "CPUExecutionProvider"]


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS))
    monkeypatch.setattr(onnxruntime, "InferenceSession", OfAGpu)
    monkeypatch.setattr(OfAGpu, "asked", [])
    monkeypatch.setattr(OfAGpu, "broken", set())


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_the_precision_of_a_cpu_is_fp32_and_of_a_gpu_fp16(
    with_fp16: Bundle, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    assert Engine(with_fp16, precision=None).precision == "fp32"
    real = onnxruntime.InferenceSession
    request.getfixturevalue("a_gpu")
    assert Engine(with_fp16, precision=None).precision == "fp16"
    assert Engine(tiny_bundle, precision=None).precision == "fp32"
    monkeypatch.setattr(onnxruntime, "InferenceSession", real)  # a wheel for GPUs where there is none
    on_cpu = Engine(with_fp16, precision=None)
    assert (on_cpu.precision, on_cpu.providers) == ("fp32", ["CPUExecutionProvider"])


@pytest.mark.usefixtures("a_gpu")
def test_what_tensorrt_cant_build_runs_on_cuda_with_one_line(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(OfAGpu, "broken", {"TensorrtExecutionProvider"})
    assert Engine(tiny_bundle).providers[0] == "CUDAExecutionProvider"
    assert OfAGpu.asked == [list(PROVIDERS), list(PROVIDERS[1:])]
    [line] = [record.getMessage() for record in caplog.records if "TensorRT can't build" in record.getMessage()]
    assert line.endswith("so it runs without: no plan can be built")
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(OfAGpu, "broken", set(PROVIDERS))
    with pytest.raises(BundleError, match=r"can't load model\.onnx: no plan"):
        Engine(tiny_bundle)


def test_both_runtimes_installed(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other wheel's metadata on the path, as pip leaves it: nothing else of it is looked at."""
    metadata = tmp_path / "onnxruntime_gpu-1.32.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxruntime-gpu\nVersion: 1.32.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    assert importlib.metadata.version("onnxruntime-gpu") == "1.32.0"
    with pytest.raises(UsageError, match="pip uninstall -y onnxruntime onnxruntime-gpu"):
        Engine(tiny_bundle)
