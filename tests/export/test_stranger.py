"""A bundle from a stranger, who can compute every hash: it opens, or is refused in one line; nothing else happens."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny_model import tiny_onnx, write_tiny_bundle
from vssl.bundle.manifest import MANIFEST, manifest_id
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import BundleError, VsslError
from vssl_export.checking.cards import REFERENCE, cards, pack
from vssl_export.checking.description import describe
from vssl_export.checking.verification import verify

names = st.sampled_from(["..", "/etc/passwd", "../x", "a/../../x", "model.onnx", ".hidden", "a\0b", "C:\\x", "x" * 300])
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | names
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | names, inner))


def places(fields: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) inside a JSON value."""
    if not isinstance(fields, dict | list):
        return []
    keys = list(fields) if isinstance(fields, dict) else list(range(len(fields)))
    return [(fields, key) for key in keys] + [place for key in keys for place in places(fields[key])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("stranger") / "bundle").location


@pytest.fixture(scope="module")
def manifest(folder: Path) -> str:
    return (folder / MANIFEST).read_text()


@settings(max_examples=200)
@given(data=st.data())
def test_any_manifest_with_a_right_id_is_read_or_refused(folder: Path, manifest: str, data: st.DataObject) -> None:
    fields = json.loads(manifest)
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(fields)))
        if data.draw(st.booleans()) and isinstance(container, dict):
            container[data.draw(st.text(max_size=10) | names)] = container.pop(key)
        else:
            container[key] = data.draw(values)
    try:
        fields["id"] = manifest_id(fields)
    except ValueError:  # not a number: no id can be computed, and no JSON holds it
        return
    (folder / MANIFEST).write_text(json.dumps(fields))
    try:
        bundle = open_bundle(folder)
    except VsslError:
        return
    assert all((folder / name).resolve().is_relative_to(folder.resolve()) for name in bundle.manifest.files)
    assert bundle.manifest.name in describe(bundle.manifest)


@settings(max_examples=200)
@given(data=st.data())
def test_any_model_with_right_hashes_runs_or_is_refused(tiny_bundle: Bundle, folder: Path, data: st.DataObject) -> None:
    model = bytearray(tiny_onnx())
    for _ in range(data.draw(st.integers(1, 4))):
        model[data.draw(st.integers(0, len(model) - 1))] = data.draw(st.integers(0, 255))
    fields = tiny_bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    location = folder.parent / "changed"
    write_bundle(location, fields, {"model.onnx": bytes(model)})
    try:
        answer = Engine(open_bundle(location), threads=1)(np.zeros((2, 32, 32, 3), np.uint8))
    except VsslError:
        return
    assert isinstance(answer, Embeddings)


@pytest.mark.parametrize(("name", "found"), [(b"\x80ncertainty", "a name in the model is not text"), (None, "[]")])
def test_outputs_without_a_name_or_a_shape(tiny_bundle: Bundle, tmp_path: Path, name: bytes | None, found: str) -> None:
    content = tiny_onnx().replace(b"uncertainty", name or b"uncertainty")
    if name is None:
        model = onnx.load_from_string(content)
        one = onnx.helper.make_tensor("one", onnx.TensorProto.FLOAT, [], [1.0])
        model.graph.node.append(onnx.helper.make_node("Constant", [], ["scalar"], value=one))
        model.graph.output.append(onnx.helper.make_tensor_value_info("scalar", onnx.TensorProto.FLOAT, []))
        content = model.SerializeToString()
    fields = tiny_bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    write_bundle(tmp_path / "bundle", fields, {"model.onnx": content})
    with pytest.raises(BundleError) as refused:
        Engine(open_bundle(tmp_path / "bundle"), threads=1)
    assert found in str(refused.value)


@settings(max_examples=40)
@given(data=st.data())
def test_any_reference_with_right_hashes_is_compared_or_refused(
    tiny_bundle: Bundle, folder: Path, data: st.DataObject
) -> None:
    answer = pack(Engine(tiny_bundle, threads=1)(cards(tiny_bundle.manifest.preprocessing)))
    reference = bytearray(answer)
    for _ in range(data.draw(st.integers(0, 4))):
        reference[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([0, 1, 4, len(answer) // 3, len(answer)]))
    content = bytes(reference[: len(answer) - cut]) + data.draw(st.binary(max_size=9) | st.just(answer))
    fields = tiny_bundle.manifest.model_dump(mode="json", exclude={"id", "files"})
    location = folder.parent / "other"
    write_bundle(location, fields, {"model.onnx": tiny_onnx(), REFERENCE: content})
    checks = {check.name: check.passed for check in verify(location, None)}
    assert [name for name, passed in checks.items() if not passed] in ([], ["parity fp32"])
    assert checks["parity fp32"] or content != answer
    assert not checks["parity fp32"] or len(content) == len(answer)
