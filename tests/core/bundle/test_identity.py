"""The encoder's id stays when a bundle is calibrated or written anew, and changes with the model and its pixels."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import tiny_calibration, tiny_onnx, write_tiny_bundle
from vssl.bundle.default import default_bundle
from vssl.bundle.identity import as_told, encoder_id, without_defaults
from vssl.bundle.manifest import manifest_id
from vssl.bundle.reading import Bundle, open_bundle
from vssl.bundle.writing import write_bundle
from vssl.errors import BundleError
from vssl.images.decoding import Preprocessing

DEFAULT = "7402b96513ee40a658e923c53385bceb547d1e61fefd0d723ac5ed47b99428a0"
"""Of `builtin:default`, for the same reason."""

TINY = "8bac90ba9dceca2e44ff1a1de90404b612459a3269a5a962652e4ca1cab9c467"
"""Of `builtin:tiny`. Galleries and folders of embeddings are bound to it: a change here asks all for new vectors."""


def written(location: Path, fields: dict[str, Any], **files: bytes) -> Bundle:
    write_bundle(location, fields, {"model.onnx": tiny_onnx(), **files})
    return open_bundle(location)


def fields_of(bundle: Bundle) -> dict[str, Any]:
    return bundle.manifest.model_dump(mode="json", exclude={"id", "files"})


def as_schema_1(bundle: Bundle) -> None:
    """Write its manifest as an older vssl did."""
    fields = json.loads((bundle.location / "manifest.json").read_text())
    del fields["normalisation"], fields["backbone"], fields["outputs"]["embedding_of"]
    del fields["preprocessing"]["fit"], fields["preprocessing"]["decoder"]
    fields["schema_version"] = 1
    fields["id"] = manifest_id(fields)
    (bundle.location / "manifest.json").write_text(json.dumps(fields))


@pytest.mark.parametrize(("location", "known"), [("builtin:tiny", TINY), (default_bundle(), DEFAULT)])
def test_the_ids_of_the_models_that_come_along_are_these(location: str | Path, known: str) -> None:
    assert open_bundle(location).encoder_id == known


def test_the_id_is_the_hash_of_what_it_says(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    model = hashlib.sha256(tiny_onnx()).hexdigest()
    text = f'{{"model":"{model}","preprocessing":{{"size":32}}}}'
    assert bundle.encoder_id == hashlib.sha256(text.encode()).hexdigest()
    text = text.replace('"size":32', '"crop":0.875,"decoder":"scaled-1","fit":"pad","size":32')
    how = Preprocessing(32, 0.875, "bicubic", "pad", "scaled-1")
    assert encoder_id(model, how) == hashlib.sha256(text.encode()).hexdigest()


def test_what_changes_it_and_what_does_not(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle")
    fields, same = fields_of(bundle), bundle.encoder_id
    kept: list[dict[str, Any]] = [
        {"calibration": tiny_calibration()},
        {"name": "other", "version": "2"},
        {"normalisation": {"mean": [0.5] * 3, "std": [0.5] * 3}},
        {"models": {**fields["models"], "fp16": {**fields["models"]["fp32"], "path": "half.onnx"}}},
        {"preprocessing": {"size": 32, "crop": 1, "fit": "crop"}},
    ]
    for number, change in enumerate(kept):
        again = written(tmp_path / str(number), {**fields, **change}, **{"half.onnx": b"other bytes"})
        assert again.encoder_id == same
        assert again.manifest.id != bundle.manifest.id
    others: list[dict[str, Any]] = [
        {"crop": 0.9},
        {"interpolation": "bilinear"},
        {"fit": "squash"},
        {"decoder": "scaled-1"},
    ]
    found = {
        written(tmp_path / "other", {**fields, "preprocessing": {"size": 32, **change}}).encoder_id for change in others
    }
    assert len(found | {same, write_tiny_bundle(tmp_path / "seed", seed=1).encoder_id}) == 6


def test_a_bundle_of_schema_1_is_read_as_it_stands(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", calibration=None)
    as_schema_1(bundle)
    old = open_bundle(bundle.location)
    assert old.manifest.schema_version == 1
    assert old.encoder_id == bundle.encoder_id
    assert old.manifest.preprocessing == Preprocessing(32)
    again = written(tmp_path / "again", {**fields_of(old), "calibration": tiny_calibration()})
    assert again.manifest.schema_version == 2
    assert again.encoder_id == bundle.encoder_id


def test_all_fields_of_schema_2_come_back(tmp_path: Path) -> None:
    fields = fields_of(write_tiny_bundle(tmp_path / "bundle"))
    backbone = {"source": "timm", "architecture": "a.b", "weights_sha256": "a" * 64, "licence": "Apache-2.0"}
    known = {"file": "familiar.f16", "images": 4, "k": 2}
    calibration = {
        **tiny_calibration(),
        "kinds": {"blur": {"shift": [0.5] * 16, "accuracy": 0.9}},
        "familiarity": known,
    }
    change = {
        "preprocessing": {"size": 32, "crop": 0.9, "interpolation": "bilinear", "fit": "pad", "decoder": "scaled-1"},
        "normalisation": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "backbone": backbone,
        "outputs": {**fields["outputs"], "embedding_of": "maps"},
        "calibration": calibration,
    }
    found = written(tmp_path / "full", {**fields, **change}, **{"familiar.f16": b"\0" * 128}).manifest
    told = found.model_dump(mode="json", exclude_none=True)
    assert {key: told[key] for key in change} == change | {
        "outputs": {"dimension": 16, "uncertainty": "mean_log_variance", "embedding_of": "maps"},
        "calibration": {"definition": "mean_log_variance", "definition_version": 1, **calibration},
    }


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"preprocessing": {"size": 32, "fit": "stretch"}}, "fit"),
        ({"preprocessing": {"size": 32, "decoder": "scaled-9"}}, "decoder"),
        ({"normalisation": {"mean": [0.5] * 3, "std": [0.5, 0.5, 0.0]}}, "normalisation.std"),
        ({"normalisation": {"mean": [0.5], "std": [0.5]}}, "normalisation.mean"),
        ({"backbone": {"source": "timm"}}, "backbone.architecture"),
        ({"calibration": {**tiny_calibration(), "kinds": {"blur": {"shift": [0.5], "accuracy": 1}}}}, "16 dimensions"),
        ({"calibration": {**tiny_calibration(), "familiarity": {"file": "x", "images": 4, "k": 2}}}, "x is not listed"),
    ],
)
def test_a_new_field_that_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    fields = fields_of(write_tiny_bundle(tmp_path / "bundle"))
    with pytest.raises(BundleError, match=named):
        written(tmp_path / "other", {**fields, **change})


def test_a_server_tells_a_later_field_only_where_it_is_used() -> None:
    assert without_defaults(Preprocessing(32)) == {"size": 32}
    assert as_told(Preprocessing(32)) == {"size": 32, "crop": 1.0, "interpolation": "bicubic"}
    assert as_told(Preprocessing(32, fit="pad")) == {
        "size": 32,
        "crop": 1.0,
        "interpolation": "bicubic",
        "fit": "pad",
    }
