"""Lower precisions: what the manifest says of them is measured, and one that is too far off is not exported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from tests.command_line import vssl_here
from tests.core.samples import fashion
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.engine import OUTPUTS, Embeddings, Engine
from vssl.errors import UsageError, VsslError
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_export.bundle_writer import ExportOptions, export_run
from vssl_export.checking import limits
from vssl_export.checking.limits import Limits, difference, over_limit
from vssl_export.checking.verification import verify

VSSL = Path(sys.executable).parent / "vssl"
LOWER: tuple[Precision, ...] = ("fp16", "int8")


def loaded(bundle: Bundle, precision: Precision) -> onnx.ModelProto:
    return onnx.load_from_string(bundle.read(bundle.manifest.models[precision].path))


@pytest.mark.parametrize("precision", LOWER)
def test_the_manifest_records_what_is_measured_again(
    precise: Bundle, fashion_folder: Path, precision: Precision
) -> None:
    images = load_images(open_source(str(fashion_folder)), precise.manifest.preprocessing)
    answers = {p: Engine(precise, precision=p)(images.pixels) for p in ("fp32", precision)}
    recorded = precise.manifest.models[precision].difference
    assert recorded == difference(answers[precision], answers["fp32"], images.labels)
    assert recorded is not None
    assert recorded.images == 40
    assert 0 < recorded.embedding.mean < recorded.embedding.max
    assert recorded.knn is not None


def test_every_precision_was_timed_at_every_batch_size(precise: Bundle) -> None:
    for model in precise.manifest.models.values():
        assert list(model.images_per_second) == ["1", "8", "32", "128"]
        assert all(speed > 0 for speed in model.images_per_second.values())
        assert (model.opset, model.ir_version) == (20, 10)


def test_half_precision_is_in_the_trunk_alone(precise: Bundle) -> None:
    model = loaded(precise, "fp16")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    types |= {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    for node in model.graph.node:
        kinds = {types[value] for value in [*node.input, *node.output] if value in types} & {1, 10}
        if node.op_type == "Conv":
            assert kinds == {TensorProto.FLOAT16}
        elif node.op_type in ("Exp", "Log", "Gemm", "ReduceMean", "ReduceL2", "Sqrt"):
            assert TensorProto.FLOAT16 not in kinds, node.name
    assert {value.type.tensor_type.elem_type for value in model.graph.output} == {TensorProto.FLOAT}


def test_half_precision_holds_where_sums_are_float16_too(precise: Bundle) -> None:
    # ONNX Runtime computes float16 in float32 on a CPU; ONNX's own reference does not.
    pixels = fashion(3, 32)
    answer = Embeddings(*ReferenceEvaluator(loaded(precise, "fp16")).run(list(OUTPUTS), {"image": pixels}))
    limits.compare(answer, Engine(precise)(pixels), "fp16")
    assert np.abs(answer.embedding - Engine(precise)(pixels).embedding).max() > 0


def test_int8_weights_are_int8_of_seven_bits(precise: Bundle) -> None:
    graph = loaded(precise, "int8").graph
    dequantised = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 9
    for node in convolutions:
        weight = weights[dequantised[node.input[1]]]
        assert weight.dtype == np.int8
        assert np.abs(weight.astype(int)).max() <= 64


def test_a_precision_over_its_limit_is_not_exported_and_says_by_how_much(
    finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(limits.LIMITS, "int8", Limits(1e-6, 0.99, 0.02))
    with pytest.raises(VsslError, match=r"embedding in int8 differs from torch's by 0\.\d+ \(limit 1e-06\)"):
        export_run(finished_run, tmp_path / "bundle", "x", "1", ExportOptions(["int8"]))
    assert list(tmp_path.iterdir()) == []


def test_each_limit_against_fp32_is_held() -> None:
    labels = np.arange(60) % 2
    fp32 = Embeddings(np.eye(2, dtype=np.float32)[labels], np.ones((60, 2), np.float32), np.zeros(60, np.float32))
    found = difference(fp32, fp32, labels)
    assert (found.knn, found.recall_at_1, found.cosine_min) == (0, 0, 1)
    assert over_limit("int8", found) is None
    swapped = Embeddings(fp32.embedding[::-1], fp32.variance, fp32.uncertainty)
    assert "mean cosine of int8 to fp32 is 0.00000" in str(over_limit("int8", difference(swapped, fp32, labels)))
    worse = found.model_copy(update={"knn": -0.03})
    assert over_limit("int8", worse) is None  # 2 of 60 images are chance, 150 of 5,000 are not
    assert "kNN accuracy in int8 is 0.0300 lower" in str(over_limit("int8", worse.model_copy(update={"images": 5000})))
    worse = found.model_copy(update={"recall_at_1": -0.008, "images": 5000})
    assert "R@1 in fp16 is 0.0080 lower" in str(over_limit("fp16", worse))
    broken = Embeddings(fp32.embedding * np.nan, fp32.variance, fp32.uncertainty)
    with pytest.raises(VsslError, match="not numbers"):
        difference(broken, fp32, None)


def test_verify_compares_precisions_and_names_the_one_that_is_off(
    precise: Bundle, fashion_folder: Path, tmp_path: Path
) -> None:
    assert [check.name for check in verify(precise.location, str(fashion_folder)) if not check.passed] == []
    model = loaded(precise, "int8")
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "mean.linear.weight")
    values = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(np.roll(values, 1, axis=0), weight.name))
    fields = precise.manifest.model_dump(mode="json", exclude={"id", "files"})
    files = {name: precise.read(name) for name in precise.manifest.files}
    write_bundle(tmp_path / "bundle", fields, {**files, "model.int8.onnx": model.SerializeToString()})
    done = vssl_here("verify", tmp_path / "bundle", "--data", fashion_folder, status=1)
    assert "FAILED  parity int8: the mean cosine of int8 to fp32 is" in done.stdout
    assert done.stderr.endswith("failed parity int8\n")


def test_the_engine_runs_the_precision_that_it_is_asked_for(precise: Bundle, exported: Bundle) -> None:
    pixels = fashion(4, 32)
    fp32, int8 = Engine(precise)(pixels), Engine(precise, precision="int8")(pixels)
    assert not np.array_equal(fp32.embedding, int8.embedding)
    with pytest.raises(UsageError, match="no model in int8; there are fp32"):
        Engine(exported, precision="int8")


@pytest.fixture(scope="module")
def commanded(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle by the command, with half weights, half precision and a card; wrong flags beforehand write nothing."""
    folder = tmp_path_factory.mktemp("commanded")
    (folder / "card.md").write_text("# Clothes\nNot good for cats — nor for dogs.\n", encoding="utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG\xff")
    out = folder / "bundle"
    for flag, value, said in (
        ("--precision", "fp32,fp8", "'fp8' is not one of fp32, fp16, int8"),
        ("--card", folder / "nowhere", "nowhere: can't be read as text"),
        ("--card", folder / "picture.png", "picture.png: can't be read as text"),
    ):
        assert said in vssl_here("export", finished_run, "--out", out, flag, value, status=2).stderr
    assert not out.exists()
    flags = ["--precision", "fp16", "--half-weights", "--card", str(folder / "card.md")]
    subprocess.run([VSSL, "export", finished_run, "--out", out, *flags], check=True, capture_output=True)
    return out


def test_a_card_travels_with_the_bundle(commanded: Path) -> None:
    assert open_bundle(commanded).read("README.md") == commanded.with_name("card.md").read_bytes()
    shown = vssl_here("info", commanded).stdout
    assert shown.startswith(f"path            {commanded}\n")
    assert "Not good for cats — nor for dogs." in shown


def test_info_has_a_row_for_each_precision(commanded: Path) -> None:
    manifest = open_bundle(commanded).manifest
    assert list(manifest.models) == ["fp32", "fp16"]
    shown = vssl_here("info", commanded).stdout.partition("\n\n# Clothes")[0]
    headings, fp32, fp16, note = shown.splitlines()[-4:]
    assert " ".join(headings.split()) == "precision MiB max mean max mean raw centred kNN R@1 1 8 32 128"
    off = manifest.models["fp16"].difference
    assert off is not None
    assert [fp32.split()[0], *fp16.split()[:9]] == [
        "fp32",
        "fp16",
        f"{manifest.files['model.fp16.onnx'].bytes / 2**20:.2f}",
        *(f"{size:.1e}" for size in (off.embedding.max, off.embedding.mean, off.variance.max, off.variance.mean)),
        f"{off.cosine_mean:.6f}",
        f"{off.centred_cosine:.6f}",
        f"{manifest.models['fp16'].images_per_second['1']:,.0f}",
    ]
    assert len(fp32.split()) == len(fp16.split()) == 12
    assert "fp32 against torch on 40 images, fp16 against fp32 on 40 images" in note
    assert json.loads(manifest.model_dump_json())["models"]["fp16"]["difference"]["knn"] is None


def test_weights_stored_as_float16_are_checked_and_half_the_file(commanded: Path, exported: Bundle) -> None:
    manifest = open_bundle(commanded).manifest
    assert manifest.files["model.onnx"].bytes < 0.6 * exported.manifest.files["model.onnx"].bytes
    assert manifest.models["fp32"].parity.limit == limits.LIMITS["fp16"].largest
    assert manifest.models["fp32"].parity.embedding > exported.manifest.models["fp32"].parity.embedding
    assert [check.name for check in verify(commanded, None) if not check.passed] == []
