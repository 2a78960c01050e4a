"""Export: what ONNX Runtime answers is what torch answers, and the manifest tells the truth about it."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch

from tests.command_line import vssl_here
from tests.tiny_model import write_tiny_bundle
from vssl.bundle.reading import Bundle, open_bundle
from vssl.engine import Embeddings, Engine
from vssl.errors import BundleError, UsageError, VsslError
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source
from vssl_export.bundle_writer import export_run
from vssl_export.checking.limits import LIMITS, compare, difference
from vssl_training.encoder.weights import load_embedder
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.run.folder import Run

VSSL = Path(sys.executable).parent / "vssl"
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="session")
def pixels(exported: Bundle, fashion_folder: Path) -> Pixels:
    return load_images(open_source(str(fashion_folder)), exported.manifest.preprocessing).pixels


def torchs(run: Path, pixels: Pixels) -> Embeddings:
    with torch.no_grad():
        return Embeddings(*(values.numpy() for values in load_embedder(Run(run))(torch.from_numpy(pixels))))


@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_onnx_runtime_answers_as_torch_at_any_batch_size(
    exported: Bundle, finished_run: Path, pixels: Pixels, count: int
) -> None:
    ours, expected = Engine(exported)(pixels[:count]), torchs(finished_run, pixels[:count])
    np.testing.assert_allclose(ours.embedding, expected.embedding, atol=1e-5)
    np.testing.assert_allclose(ours.variance, expected.variance, rtol=1e-4)
    np.testing.assert_allclose(ours.uncertainty, expected.uncertainty, atol=1e-5)


def test_outputs_are_on_the_scale_that_the_design_fixes(exported: Bundle, pixels: Pixels) -> None:
    answer = Engine(exported)(pixels)
    np.testing.assert_allclose(np.linalg.norm(answer.embedding, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.log(answer.variance).mean(1), answer.uncertainty, atol=1e-5)
    assert answer.uncertainty.std() > 0


def test_the_manifest_records_the_measured_difference(exported: Bundle, finished_run: Path) -> None:
    parity = exported.manifest.models["fp32"].parity
    sample = Run(finished_run).sample()
    again = compare(Engine(exported)(sample), torchs(finished_run, sample))
    assert parity == again
    assert 0 < parity.embedding < LIMITS["fp32"].largest
    assert parity.images == len(sample) == 40
    found = difference(Engine(exported)(sample), torchs(finished_run, sample))
    assert exported.manifest.models["fp32"].difference == found
    assert found.embedding.max == parity.embedding
    assert found.knn is None


def test_the_manifest_says_where_the_model_comes_from(exported: Bundle, finished_run: Path) -> None:
    provenance, record = exported.manifest.provenance, Run(finished_run).record()
    assert provenance.recipe == record.recipe.model_dump(mode="json")
    assert provenance.data == {"images": 40, "sha256": record.data.sha256}
    assert set(provenance.versions) == {"vssl", "torch", "onnx", "onnxruntime"}
    assert exported.manifest.evaluation.keys() == {"train_knn", "train_rank", "train_std"}
    assert exported.manifest.preprocessing.size == record.recipe.size


def test_a_bundle_holds_no_path_of_the_machine_that_made_it(exported: Bundle, finished_run: Path) -> None:
    here = [os.fsencode(path) for path in (Path.cwd(), Path.home(), finished_run, Path(sys.prefix))]
    for path in exported.location.rglob("*"):
        assert not any(needle in path.read_bytes() for needle in here if len(needle) > 1), path


def test_the_onnx_file_is_valid_and_self_contained(exported: Bundle) -> None:
    model = onnx.load_from_string(exported.read("model.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    # But for the one of the images' detail, which has no layer before it, they are folded into the layers before them.
    assert sum(node.op_type == "BatchNormalization" for node in model.graph.node) == 1
    assert sorted(path.name for path in exported.location.iterdir()) == [
        "manifest.json",
        "model.onnx",
        "reference.f32",
    ]


def test_a_difference_over_the_limit_is_not_exported(exported: Bundle, pixels: Pixels) -> None:
    answer = Engine(exported)(pixels)
    off = Embeddings(answer.embedding, answer.variance * 1.01, answer.uncertainty)
    with pytest.raises(VsslError, match=r"log_variance in fp32 differs from torch's by 0\.01 \(limit 0\.001\)"):
        compare(off, answer)
    broken = Embeddings(answer.embedding * np.nan, answer.variance, answer.uncertainty)
    with pytest.raises(VsslError, match="embedding in fp32 differs"):
        compare(broken, answer)


def test_the_checkpoint_of_a_finished_run_is_the_run_and_a_zip_the_same_bundle(
    exported: Bundle, finished_run: Path, tmp_path: Path, pixels: Pixels
) -> None:
    export_run(Run(finished_run).checkpoint_path, tmp_path / "fashion.zip", "fashion", "1")
    zipped = open_bundle(tmp_path / "fashion.zip")
    assert zipped.manifest.files == exported.manifest.files
    assert zipped.manifest.provenance.checkpoint is None
    np.testing.assert_array_equal(Engine(zipped)(pixels).embedding, Engine(exported)(pixels).embedding)


def test_exporting_again_replaces_a_bundle_but_never_anything_else(
    exported: Bundle, finished_run: Path, tmp_path: Path
) -> None:
    """A checkpoint of another name is one of a run in training."""
    run, location = Run(tmp_path / "run"), tmp_path / "bundle"
    shutil.copytree(finished_run, run.path)
    mine = run.checkpoint_path.rename(run.checkpoint_path.with_name("step 6.pt"))
    write_tiny_bundle(location)
    export_run(mine, location, "two", "2")
    manifest = open_bundle(location).manifest
    assert (manifest.name, manifest.files) == ("two", exported.manifest.files)
    assert manifest.provenance.checkpoint is not None
    assert manifest.provenance.checkpoint.phase == "variance"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a bundle"):
        export_run(finished_run, tmp_path / "mine", "three", "1")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "mine", "run"]


def test_an_unfinished_run_is_not_exported(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    Run(tmp_path / "run").weights_path.unlink()
    with pytest.raises(UsageError, match=r"not finished; .* or export .*run/checkpoints/last\.pt"):
        export_run(tmp_path / "run", tmp_path / "bundle", "x", "1")
    with pytest.raises(UsageError, match="no run here"):
        export_run(tmp_path / "missing", tmp_path / "bundle", "x", "1")
    assert not (tmp_path / "bundle").exists()


def test_a_run_in_training_is_exported_from_its_checkpoint(finished_run: Path, tmp_path: Path, pixels: Pixels) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished_run, run.path)
    run.weights_path.unlink()
    steps = run.record().schedule.encoder
    phase = EncoderTraining(run.record().recipe, torch.from_numpy(pixels), seed=0, steps=steps)
    for step in range(3):
        phase.step(step)
    run.save_checkpoint(phase.state(), phase.name, 3)
    before = run.metrics_path.read_bytes()
    said = f"of the encoder phase, step 3 of {steps}; no variance head yet: every image has the same uncertainty"
    assert said in vssl_here("export", run.checkpoint_path, "--out", tmp_path / "bundle").stderr
    assert said in vssl_here("info", tmp_path / "bundle").stdout
    bundle = open_bundle(tmp_path / "bundle")
    with torch.no_grad():
        mean = phase.student.eval()(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).mean
    answer = Engine(bundle)(pixels)
    np.testing.assert_allclose(answer.embedding, torch.nn.functional.normalize(mean).numpy(), atol=1e-5)
    np.testing.assert_allclose(answer.variance, 1 / 16, rtol=1e-5)
    assert run.metrics_path.read_bytes() == before


@pytest.mark.parametrize("state", [[1], {"phase": "encoder"}, {"phase": "encoder", "step": 1, "student": {}}])
def test_a_file_that_is_no_state_of_this_run(finished_run: Path, tmp_path: Path, state: object) -> None:
    run = Run(tmp_path / "run")
    shutil.copytree(finished_run, run.path)
    torch.save(state, run.checkpoint_path)
    with pytest.raises(UsageError, match=r"last\.pt: not a checkpoint of the run"):
        export_run(run.checkpoint_path, tmp_path / "bundle", "x", "1")
    assert not (tmp_path / "bundle").exists()


def test_what_is_no_checkpoint_of_a_run(finished_run: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run, tmp_path / "run")
    checkpoint = Run(tmp_path / "run").checkpoint_path
    shutil.copy(checkpoint, tmp_path / "mine.pt")
    with pytest.raises(UsageError, match=r"mine\.pt: neither a run nor"):
        export_run(tmp_path / "mine.pt", tmp_path / "bundle", "x", "1")
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(VsslError, match=r"last\.pt: damaged"):
        export_run(checkpoint, tmp_path / "bundle", "x", "1")
    assert not (tmp_path / "bundle").exists()


def test_features_are_the_backbones(precise: Bundle, exported: Bundle, finished_run: Path, pixels: Pixels) -> None:
    """`precise` is exported with them, `exported` without."""
    with torch.no_grad():
        backbone = load_embedder(Run(finished_run)).backbone
        expected = backbone(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255).final.numpy()
    engine = Engine(precise)
    np.testing.assert_allclose(engine.features(pixels), expected, atol=1e-4)
    assert engine.features(pixels[:0]).shape == (0, precise.manifest.outputs.features)
    np.testing.assert_allclose(engine(pixels).embedding, Engine(exported)(pixels).embedding, atol=1e-6)
    for precision in ("fp16", "int8"):
        lower = Engine(precise, precision=precision).features(pixels)
        assert 0.99 < (lower * expected).sum() / np.linalg.norm(lower) / np.linalg.norm(expected) < 1
    model = onnx.load_from_string(precise.read("model.onnx"))
    assert [output.name for output in model.graph.output] == ["embedding", "variance", "uncertainty", "features"]
    with pytest.raises(UsageError, match="gives no features; export it again with --features"):
        Engine(exported).features(pixels)


@pytest.mark.parametrize("command", ["serve", "evaluate", "embed"])
def test_every_command_refuses_a_changed_byte_and_names_the_file(
    exported: Bundle, fashion_folder: Path, tmp_path: Path, command: str
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(exported.location, bundle)
    model = bytearray((bundle / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(model)
    with pytest.raises(BundleError, match=r"model\.onnx does not match its hash"):
        open_bundle(bundle)
    arguments = {
        "serve": [str(bundle), "--port", "0"],
        "evaluate": [str(bundle), "--data", str(fashion_folder)],
        "embed": [str(fashion_folder), "--bundle", str(bundle), "-o", str(tmp_path / "out")],
    }[command]
    assert "model.onnx does not match its hash" in vssl_here(command, *arguments, status=1).stderr
