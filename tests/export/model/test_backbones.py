"""Transformers and ConvNeXts of timm, at random weights: what ONNX Runtime answers is what torch answers."""

from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from tests.core.samples import fashion
from vssl.engine import OUTPUTS, Embeddings
from vssl.errors import UsageError
from vssl_export.checking.limits import LIMITS, compare, difference, worth_telling
from vssl_export.model.conversion import MOST_BYTES, convert, fits_one_file
from vssl_export.model.onnx_file import to_onnx
from vssl_export.model.precisions import trunk
from vssl_export.model.tensorrt import build
from vssl_training.encoder.embedder import Embedder, build_embedder, embeddings_of
from vssl_training.recipe.reading import load_recipe, override

BACKBONES = ["test_vit", pytest.param("test_convnext", marks=pytest.mark.slow)]
SIZE = 64


@cache
def embedder(name: str) -> Embedder:
    sets = [f"network.backbone={name}", f"image.size={SIZE}", "network.embedding.whiten.dimension=16"]
    torch.manual_seed(0)
    built = build_embedder(override(load_recipe("quick"), sets))
    for parameter in built.log_variance.parameters():  # it starts at 0
        torch.nn.init.normal_(parameter, std=0.05)
    return built.eval()


@cache
def contents(name: str) -> dict[str, bytes]:
    fp32 = to_onnx(embedder(name), SIZE)
    return {
        "with features": fp32,
        **dict(convert(fp32, ("fp16", "int8"), fashion(32, SIZE)).items()),
        "half weights": convert(fp32, (), fashion(32, SIZE), half_weights=True)["fp32"],
    }


def answer(data: bytes) -> Embeddings:
    session = onnxruntime.InferenceSession(data)
    return Embeddings(*session.run(list(OUTPUTS), {"image": fashion(32, SIZE)}))


@pytest.mark.parametrize("name", BACKBONES)
def test_every_precision_is_near_torch(name: str) -> None:
    expected = embeddings_of(embedder(name), fashion(32, SIZE))
    compare(answer(contents(name)["fp32"]), expected)
    compare(answer(contents(name)["fp16"]), expected, "fp16")
    compare(answer(contents(name)["int8"]), expected, "int8")
    half = answer(contents(name)["half weights"])
    compare(half, expected, limit=LIMITS["fp16"].largest)
    assert difference(half, expected).cosine_mean > 0.9999


@pytest.mark.parametrize("name", BACKBONES)
def test_half_weights_are_half_the_file_and_compute_in_float32(name: str) -> None:
    whole, half = contents(name)["fp32"], contents(name)["half weights"]
    assert len(half) < 0.6 * len(whole)
    model = onnx.load_from_string(half)
    stored = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    for node in model.graph.node:
        assert node.op_type == "Cast" or stored.isdisjoint(node.input)


@pytest.mark.parametrize("name", BACKBONES)
def test_the_trunk_reaches_from_the_first_product_to_the_last(name: str) -> None:
    model = onnx.load_from_string(contents(name)["with features"])
    products = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    inside = [node for node in products if node.name in trunk(model)]
    assert len(inside) > 0.8 * len(products)


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("precision", ["half weights"])
def test_tensorrt_builds_it(name: str, precision: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    assert len(build(trt, contents(name)[precision], SIZE, capability="SM89").plan) > 100_000


def test_what_int8_hides_is_told() -> None:
    rng = np.random.default_rng(0)
    common, own = rng.normal(size=16), rng.normal(size=(200, 16))

    def unit(rows: np.ndarray) -> Embeddings:
        vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        return Embeddings(vectors, np.ones_like(vectors), np.zeros(len(vectors), np.float32))

    # Images that lie close together: a little noise leaves the cosine high, and changes who is near whom.
    exact, rough = (unit(30 * common + own + noise * rng.normal(size=own.shape)) for noise in (0, 0.5))
    found = difference(rough, exact)
    assert found.cosine_mean > 0.999
    assert found.centred_cosine is not None
    ours, theirs = (torch.from_numpy(each.embedding - exact.embedding.mean(0)) for each in (rough, exact))
    cosines = torch.nn.functional.cosine_similarity(ours, theirs)
    assert found.centred_cosine == pytest.approx(float(cosines.mean()), abs=1e-5)
    assert found.centred_cosine < 0.95
    told = worth_telling("int8", found)
    assert told is not None
    assert f"is {found.centred_cosine:.4f}, under 0.999" in told
    assert worth_telling("fp16", difference(exact, exact)) is None


def test_a_network_that_one_file_cannot_hold_is_refused() -> None:
    with torch.device("meta"):
        large = torch.nn.Linear(MOST_BYTES // 4, 1, bias=False)
    fits_one_file(large)
    with torch.device("meta"):
        large = torch.nn.Linear(MOST_BYTES // 4 + 1, 1, bias=False)
    with pytest.raises(UsageError, match=r"weights are 2\.1 GB in float32.* holds 2\.1 GB; take a smaller backbone"):
        fits_one_file(large)
