"""The engine answers as a bare ONNX Runtime session does, and refuses what is not what the manifest promises."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.core.samples import fashion
from tests.tiny_model import DIMENSION, SIZE, tiny_onnx, write_tiny_bundle
from vssl.batch_sizes import MAX_BATCH, PART_PIXELS, batch_images, bucket, part_images
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.engine import OUTPUTS, Embeddings, Engine, concatenate
from vssl.errors import BundleError, VsslError

IMAGES = fashion(24, SIZE)


def bundle_around(folder: Path, model: bytes) -> Bundle:
    """A whole, verified bundle whose model is another."""
    fields = write_tiny_bundle(folder / "tiny").manifest.model_dump(exclude={"id", "files"})
    write_bundle(folder / "other", fields, {"model.onnx": model})
    return open_bundle(folder / "other")


def changed(change: Callable[[onnx.ModelProto], Any]) -> bytes:
    """The tiny model, changed."""
    model = onnx.load_model_from_string(tiny_onnx())
    change(model)
    data: bytes = model.SerializeToString()
    return data


def equal(one: Embeddings, other: Embeddings) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in OUTPUTS)


def test_answers_are_the_sessions(tiny_bundle: Bundle) -> None:
    session = onnxruntime.InferenceSession(tiny_onnx(), providers=["CPUExecutionProvider"])
    wanted = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"image": IMAGES}), strict=True))
    found = Engine(tiny_bundle)(IMAGES)

    assert {name: getattr(found, name).dtype for name in OUTPUTS} == dict.fromkeys(OUTPUTS, np.float32)
    assert found.embedding.shape == found.variance.shape == (24, DIMENSION)
    assert found.uncertainty.shape == (24,)
    assert all(np.allclose(getattr(found, name), wanted[name], atol=1e-6) for name in OUTPUTS)
    assert np.allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-5)


def test_an_image_is_embedded_alike_in_any_batch(tiny_bundle: Bundle) -> None:
    engine = Engine(tiny_bundle)
    whole = engine(IMAGES)
    parts = [engine(IMAGES[start:stop]) for start, stop in ((0, 1), (1, 8), (8, 24))]

    assert len(whole) == 24
    assert all(
        np.allclose(getattr(concatenate(parts), name), getattr(whole, name), atol=1e-5, rtol=1e-5) for name in OUTPUTS
    )
    assert equal(whole[3:5], Embeddings(whole.embedding[3:5], whole.variance[3:5], whole.uncertainty[3:5]))


def test_rows_that_do_not_lie_one_after_another(tiny_bundle: Bundle) -> None:
    engine = Engine(tiny_bundle)
    mirrored = IMAGES[::-2, :, ::-1]

    assert not mirrored.flags.c_contiguous
    assert equal(engine(mirrored), engine(np.ascontiguousarray(mirrored)))


def test_more_images_than_one_call_takes(tiny_bundle: Bundle) -> None:
    engine = Engine(tiny_bundle)
    many = np.resize(IMAGES, (2 * MAX_BATCH + 3, SIZE, SIZE, 3))
    whole = engine(many)

    assert len(whole) == 2 * MAX_BATCH + 3
    assert equal(whole[2 * MAX_BATCH :], engine(many[2 * MAX_BATCH :]))


@pytest.mark.parametrize(
    ("images", "size"), [(1, 1), (2, 2), (3, 4), (17, 32), (64, 64), (65, 128), (MAX_BATCH, MAX_BATCH)]
)
def test_a_bucket_is_the_next_power_of_two(images: int, size: int) -> None:
    assert bucket(images) == size


def test_no_images(tiny_bundle: Bundle) -> None:
    found = Engine(tiny_bundle)(np.zeros((0, SIZE, SIZE, 3), np.uint8))

    assert [getattr(found, name).shape for name in OUTPUTS] == [(0, DIMENSION), (0, DIMENSION), (0,)]
    assert len(concatenate([found, Engine(tiny_bundle)(IMAGES[:2])])) == 2


def test_eight_threads_get_the_same_answers(tiny_bundle: Bundle) -> None:
    engine = Engine(tiny_bundle, threads=1)
    batches = [IMAGES[i % 20 : i % 20 + 1 + i % 4] for i in range(200)]
    wanted = [engine(batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(engine, batches))

    assert all(equal(one, other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.astype(np.float32),
        IMAGES.astype(np.int8),
        IMAGES[0],
        IMAGES[..., 0],
        IMAGES[:, :-1],
        IMAGES.transpose(0, 3, 1, 2),
        np.zeros((0, SIZE, SIZE, 4), np.uint8),
    ],
)
def test_another_shape_or_type(tiny_bundle: Bundle, images: Any) -> None:
    with pytest.raises(ValueError, match=r"images are .*, not uint8 \[N, 32, 32, 3\]"):
        Engine(tiny_bundle)(images)


def test_the_providers_are_those_of_the_session(tiny_bundle: Bundle) -> None:
    assert Engine(tiny_bundle).providers[-1] == "CPUExecutionProvider"


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = "picture"


def fix_the_batch(model: onnx.ModelProto) -> None:
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_value = 4


def swap_outputs(model: onnx.ModelProto) -> None:
    first, second, third = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in model.graph.output]
    del model.graph.output[:]
    model.graph.output.extend([second, first, third])


def drop_an_output(model: onnx.ModelProto) -> None:
    del model.graph.output[2]


def add_features(model: onnx.ModelProto) -> None:
    """The tiny model's cells as a fourth output [N, 48], which its manifest does not promise."""
    model.graph.output.append(onnx.helper.make_tensor_value_info("vector", onnx.TensorProto.FLOAT, ["N", 48]))


@pytest.mark.parametrize("change", [rename_input, fix_the_batch, swap_outputs, drop_an_output, add_features])
def test_a_model_that_is_not_what_the_manifest_promises(
    tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    promise = r"the manifest promises image tensor\(uint8\) \['N', 32, 32, 3\] → embedding .* export the bundle again"
    with pytest.raises(BundleError, match=promise):
        Engine(bundle_around(tmp_path, changed(change)))


def test_another_dimension_than_the_manifests(tmp_path: Path) -> None:
    fields = write_tiny_bundle(tmp_path / "tiny").manifest.model_dump(exclude={"id", "files"})
    for place, change in (("size", {"preprocessing": {"size": 64}}), ("dimension", {"outputs": {"dimension": 8}})):
        write_bundle(tmp_path / place, {**fields, **change}, {"model.onnx": tiny_onnx()})
        with pytest.raises(BundleError, match="the manifest promises"):
            Engine(open_bundle(tmp_path / place))


@pytest.mark.parametrize("model", [b"", b"not a model", tiny_onnx()[:-100]])
def test_a_model_that_cant_be_loaded(tmp_path: Path, model: bytes) -> None:
    with pytest.raises(BundleError, match=r"other: ONNX Runtime can't load model\.onnx"):
        Engine(bundle_around(tmp_path, model))


@pytest.mark.parametrize("images", [1, 2, 3, 17, 100])
def test_parts_side_by_side_are_the_whole(tiny_bundle: Bundle, images: int) -> None:
    """Of as many threads at once as one engine may be called from."""
    some = np.random.default_rng(images).integers(0, 256, (images, 32, 32, 3), np.uint8)
    alone, divided = Engine(tiny_bundle, threads=1)(some), Engine(tiny_bundle, threads=3)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(divided, [some] * 8):
            for name in OUTPUTS:
                np.testing.assert_allclose(getattr(found, name), getattr(alone, name), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "images", "among", "expected"),
    [(224, 32, 2, 2), (224, 2, 2, 1), (32, 128, 2, 16), (32, 8, 2, 4), (1024, 8, 2, 1)],
)
def test_parts_are_few_images_and_enough_for_all_cores(size: int, images: int, among: int, expected: int) -> None:
    assert part_images(size, images, among) == expected


@pytest.mark.parametrize(
    ("size", "many", "few"), [(16, 128, 128), (32, 128, 128), (96, 128, 8), (160, 128, 4), (224, 64, 2), (1024, 4, 1)]
)
def test_batches_are_powers_of_two_and_hold_few_pixels(size: int, many: int, few: int) -> None:
    assert (batch_images(size), batch_images(size, PART_PIXELS)) == (many, few)


def test_a_model_that_fails_on_some_batches(tmp_path: Path) -> None:
    """One that looks at the third image of the batch: it loads, and fails where there is none."""

    def look_at_the_third(model: onnx.ModelProto) -> None:
        model.graph.node[-1].output[0] = "mean_log"
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(2), "third"))
        model.graph.node.append(onnx.helper.make_node("Gather", ["mean_log", "third"], ["example"]))
        model.graph.node.append(onnx.helper.make_node("Sub", ["mean_log", "example"], ["uncertainty"]))

    engine = Engine(bundle_around(tmp_path, changed(look_at_the_third)), threads=1)

    assert len(engine(IMAGES[:3])) == 3
    with pytest.raises(VsslError, match="ONNX Runtime failed on a batch of 2 images"):
        engine(IMAGES[:2])
    assert len(engine(IMAGES[:3])) == 3


@pytest.mark.parametrize("kind", ["initializer", "constant"])
@pytest.mark.parametrize("place", ["weights.bin", "./weights.bin", "../cwd/weights.bin", "{cwd}/weights.bin"])
def test_a_model_may_not_read_files_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    """ONNX Runtime would look for a model's external weights in the working directory: no hash covers them there."""
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    monkeypatch.chdir(cwd)

    def weights_outside(model: onnx.ModelProto) -> None:
        tensor = next(value for value in model.graph.initializer if value.name == "projection")
        (cwd / "weights.bin").write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, place.format(cwd=cwd))
        tensor.ClearField("raw_data")
        if kind == "constant":
            model.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["projection"], value=tensor))
            model.graph.initializer.remove(tensor)

    bundle = bundle_around(tmp_path, changed(weights_outside))
    with pytest.raises(BundleError, match=r"(?i)can't load model\.onnx: .*external data"):
        Engine(bundle)


def test_a_file_changed_after_the_bundle_was_opened(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    (bundle.location / "model.onnx").write_bytes(tiny_onnx()[:-1] + b"\0")
    with pytest.raises(BundleError, match=r"^.*tiny: model\.onnx does not match its hash"):
        Engine(bundle)
