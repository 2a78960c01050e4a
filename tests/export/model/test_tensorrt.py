"""TensorRT: parsing, profile and building with `tensorrt_rtx`, which needs no GPU; running a plan would need one."""

from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from tests.command_line import vssl_here
from vssl.bundle.manifest import Precision
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.errors import VsslError
from vssl_export.bundle_writer import add_plans
from vssl_export.model.tensorrt import BATCHES, build

trt: Any = pytest.importorskip("tensorrt_rtx")
ADA = "SM89"
pytestmark = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_exported_model_builds_for_a_gpu_that_is_not_here(precise: Bundle, precision: Precision) -> None:
    data = precise.read(precise.manifest.models[precision].path)
    built = build(trt, data, 32, capability=ADA)
    assert len(built.plan) > 100_000
    again = build(trt, data, 32, timings=built.timings, capability=ADA)
    assert len(again.plan) > 100_000


def test_an_operator_that_tensorrt_has_not_is_named(precise: Bundle) -> None:
    model = onnx.load_from_string(precise.read("model.onnx"))
    model.graph.node.insert(1, helper.make_node("StringNormalizer", ["words"], ["clean"], name="tidy_words"))
    model.graph.input.append(helper.make_tensor_value_info("words", TensorProto.STRING, [1]))
    model.graph.output.append(helper.make_tensor_value_info("clean", TensorProto.STRING, None))
    with pytest.raises(VsslError, match=r"can't take the model's node .*words"):
        build(trt, model.SerializeToString(), 32, capability=ADA)


def test_a_node_that_tensorrt_refuses_is_named(precise: Bundle) -> None:
    # TensorRT takes no other operation on uint8 than a cast.
    model = onnx.load_from_string(precise.read("model.onnx"))
    first = next(node for node in model.graph.node if node.op_type == "Cast")
    model.graph.node.insert(0, helper.make_node("Transpose", ["image"], ["turned"], name="turn", perm=[0, 2, 1, 3]))
    first.input[0] = "turned"
    with pytest.raises(VsslError, match=r"node turn \(Transpose\): .*UInt8"):
        build(trt, model.SerializeToString(), 32, capability=ADA)


def test_a_plan_needs_a_profile_that_fits_the_model(precise: Bundle) -> None:
    with pytest.raises(VsslError, match="can't build the network"):
        build(trt, precise.read("model.onnx"), 64, capability=ADA)


def test_plans_go_into_the_manifest_by_version_and_capability(
    precise: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vssl_export.model.tensorrt.build", partial(build, capability=ADA))
    contents = {p: precise.read(model.path) for p, model in precise.manifest.models.items()}
    plans, files = add_plans(tmp_path / "bundle", contents, 32, trt, (8, 9))
    fields = precise.manifest.model_dump(mode="json", exclude={"id", "files"}) | {"engines": plans}
    write_bundle(
        tmp_path / "bundle", fields, {**{name: precise.read(name) for name in precise.manifest.files}, **files}
    )
    engines = open_bundle(tmp_path / "bundle").manifest.engines
    assert [plan.path for plan in engines] == [
        f"engines/model.{precision}.tensorrt-{trt.__version__}.sm89.plan" for precision in ("fp32", "fp16")
    ]
    assert engines[0].compute_capability == "8.9"
    assert engines[0].batches == BATCHES
    shown = vssl_here("info", tmp_path / "bundle").stdout
    assert f"TensorRT {trt.__version__} and compute capability 8.9, batches 1 to 32" in shown


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_nothing_is_written(finished_run: Path, tmp_path: Path) -> None:
    done = vssl_here("export", finished_run, "--out", tmp_path / "bundle", "--tensorrt", status=2)
    assert "needs a GPU" in done.stderr
    assert list(tmp_path.iterdir()) == []
