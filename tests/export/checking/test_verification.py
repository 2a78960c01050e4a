"""`vssl info` says what is in a bundle; `vssl verify` finds whatever is not as it promises, and names it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from tests.command_line import vssl_here
from tests.tiny_model import tiny_onnx
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl_export.checking.cards import REFERENCE
from vssl_export.checking.verification import Check, verify


def changed(bundle: Bundle, location: Path, model: bytes | None = None, **fields: Any) -> Path:
    """The bundle with other fields or another model, its hashes right: somebody who writes manifests can do that."""
    manifest = bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    write_bundle(location, {**manifest, **fields}, {"model.onnx": model or bundle.read("model.onnx")})
    return location


def with_constant(name: str, value: Any) -> bytes:
    """The tiny model with one of its constants changed."""
    model = onnx.load_from_string(tiny_onnx())
    constant = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    constant.CopyFrom(numpy_helper.from_array(np.asarray(value, numpy_helper.to_array(constant).dtype), name))
    return bytes(model.SerializeToString())


def with_length_of_another_norm() -> bytes:
    """The tiny model with embeddings of unit length by the sum of absolute values."""
    model = onnx.load_from_string(tiny_onnx())
    node = next(node for node in model.graph.node if node.op_type == "LpNormalization")
    next(attribute for attribute in node.attribute if attribute.name == "p").i = 1
    return bytes(model.SerializeToString())


def failed(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.passed]


def test_info_is_the_manifest(exported: Bundle) -> None:
    done = vssl_here("info", exported.location, "--json")
    path = str(exported.location.resolve())
    about = {"path": path, "encoder_id": exported.encoder_id}
    assert json.loads(done.stdout) == {**about, **exported.manifest.model_dump(mode="json")}
    text = vssl_here("info", exported.location).stdout
    for fact in ("fashion 1", exported.manifest.id, "32 × 32", "model.onnx", "opset 20", "16 numbers", "seed 0"):
        assert fact in text


def test_info_needs_the_base_install_only(tiny_bundle: Bundle) -> None:
    code = (
        "import sys; sys.argv = ['vssl', 'info', sys.argv[1]]\n"
        "from vssl.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'fastapi') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle.location)], capture_output=True, text=True, check=True
    )
    assert "tiny 1" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_good_bundle_passes_every_check(exported: Bundle, fashion_folder: Path) -> None:
    done = vssl_here("verify", exported.location, "--data", fashion_folder)
    assert [line.split(":")[0].split("  ")[-1] for line in done.stdout.splitlines()] == [
        "files",
        "preprocessing",
        "signature fp32",
        "outputs fp32",
        "parity fp32",
    ]


def test_verify_needs_no_torch(tiny_bundle: Bundle) -> None:
    code = (
        "import sys; from pathlib import Path; from vssl_export.checking.verification import verify\n"
        "assert all(check.passed for check in verify(Path(sys.argv[1]), None))\n"
        "print('torch' in sys.modules or 'onnx' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tiny_bundle.location)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_a_changed_byte_fails_the_files_and_nothing_else_is_looked_at(exported: Bundle, tmp_path: Path) -> None:
    shutil.copytree(exported.location, tmp_path / "bundle")
    model = bytearray((tmp_path / "bundle" / "model.onnx").read_bytes())
    model[1000] ^= 1
    (tmp_path / "bundle" / "model.onnx").write_bytes(model)
    done = vssl_here("verify", tmp_path / "bundle", status=1)
    assert done.stdout.startswith("FAILED  files: ")
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr.endswith("failed files\n")


def test_other_preprocessing_than_at_export_is_found(exported: Bundle, tmp_path: Path) -> None:
    other = {"size": 32, "crop": 1.0, "interpolation": "bilinear"}
    done = vssl_here("verify", changed(exported, tmp_path / "bundle", preprocessing=other), status=1)
    assert "FAILED  preprocessing: a test card becomes other pixels" in done.stdout
    assert "failed preprocessing\n" in done.stderr


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (with_constant("dims", 0.0), "a variance is not a positive number"),
        (with_length_of_another_norm(), "the length of an embedding is off 1"),
        (b"no model", "ONNX Runtime can't load model.onnx"),
    ],
)
def test_a_model_that_breaks_the_contract_is_found(
    tiny_bundle: Bundle, tmp_path: Path, model: bytes, found: str
) -> None:
    checks = list(verify(changed(tiny_bundle, tmp_path / "bundle", model), None))
    (name,) = failed(checks)
    assert name in ("outputs fp32", "signature fp32")
    assert found in next(check.found for check in checks if check.name == name)


def test_answers_other_than_torchs_at_export_are_found(exported: Bundle, tmp_path: Path) -> None:
    model = onnx.load_from_string(exported.read("model.onnx"))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "mean.linear.bias")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
    fields = exported.manifest.model_dump(mode="json", exclude={"id", "files"})
    reference = exported.read(REFERENCE)
    files = {"model.onnx": model.SerializeToString(), REFERENCE: reference}
    for broken, found in ((files, "differs from torch's by"), (files | {REFERENCE: reference[:-4]}, "does not hold")):
        write_bundle(tmp_path / "bundle", fields, broken)
        (check,) = [check for check in verify(tmp_path / "bundle", None) if not check.passed]
        assert check.name == "parity fp32"
        assert found in check.found


def test_another_signature_than_promised_is_found(tiny_bundle: Bundle, tmp_path: Path) -> None:
    location = changed(tiny_bundle, tmp_path / "bundle", outputs={"dimension": 17})
    assert failed(list(verify(location, None))) == ["signature fp32"]


def test_no_bundle_and_no_images_are_usage_errors(tiny_bundle: Bundle, tmp_path: Path) -> None:
    for command in ("verify", "info"):
        vssl_here(command, tmp_path / "none", status=2)
    done = vssl_here("verify", tiny_bundle.location, "--data", tmp_path, status=2)
    assert "no images in it" in done.stderr


def test_a_zip_is_verified_like_a_folder(tiny_bundle: Bundle, tmp_path: Path) -> None:
    location = changed(tiny_bundle, tmp_path / "bundle.zip")
    assert failed(list(verify(location, None))) == []
    assert open_bundle(location).manifest.name == "tiny"
