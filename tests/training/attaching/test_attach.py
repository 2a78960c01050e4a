"""`vssl attach`: a run like any other, the same after a kill, from several folders; refusals in one line."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.command_line import vssl_here
from vssl.bundle.reading import open_bundle
from vssl.engine import Engine
from vssl.errors import UsageError, VsslError
from vssl_export.bundle_writer import export_run
from vssl_training.attaching import cache
from vssl_training.attaching.attach import AttachJob, attach_pretrained
from vssl_training.attaching.photographs import part_held_back
from vssl_training.encoder.embedder import embeddings_of
from vssl_training.encoder.weights import load_embedder
from vssl_training.judging.evaluation import evaluate
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import Recipe, WhitenSettings
from vssl_training.run.folder import Run


@pytest.fixture(scope="module")
def attached(
    attach_recipe: Recipe, finished_run: Path, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of 120 pictures; the cache is kept beside it."""
    folder = tmp_path_factory.mktemp("attached")
    attach_pretrained(attach_recipe, finished_run, AttachJob((str(pictures),), folder / "run", cache=folder / "cache"))
    return folder / "run"


def test_it_is_a_run_with_the_backbone_untouched(attached: Path, finished_run: Path) -> None:
    run = Run(attached)
    record = run.record()
    assert run.finished
    assert record.backbone is not None
    assert (record.backbone.source, record.data.images) == ("vssl", 120)
    assert isinstance(record.recipe.network.embedding.whiten, WhitenSettings | None)
    before, after = load_file(Run(finished_run).weights_path), load_file(run.weights_path)
    for name, values in before.items():
        if name.startswith("backbone."):
            assert torch.equal(values, after[name])
    assert "held_back_rho" in run.metrics()[-1]


def test_its_bundle_answers_as_torch_does_and_says_whose_backbone_it_is(attached: Path, tmp_path: Path) -> None:
    manifest = export_run(attached, tmp_path / "bundle", "attached", "1")
    sample = Run(attached).sample()
    ours, torchs = Engine(open_bundle(tmp_path / "bundle"))(sample), embeddings_of(load_embedder(Run(attached)), sample)
    np.testing.assert_allclose(ours.embedding, torchs.embedding, atol=1e-5)
    np.testing.assert_allclose(ours.uncertainty, torchs.uncertainty, atol=1e-4)
    assert manifest.backbone is not None
    assert manifest.backbone.architecture == "small"
    assert manifest.outputs.embedding_of == "features"
    assert manifest.normalisation is not None
    assert manifest.calibration is None  # too few images


def test_it_can_be_evaluated(attached: Path, pictures: Path) -> None:
    assert evaluate(attached, str(pictures), None)["images"] == 120


KILLED = """
import os, signal
import vssl.cli
from vssl_training.attaching import {module} as module
whole = module.{step}
def do_and_die(*arguments):
    whole(*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
module.{step} = do_and_die
vssl.cli.main()
"""

SHARDS = ["000000.npz", "000001.npz", "000002.npz", "000003.npz"]


@pytest.mark.parametrize(
    ("module", "step", "there"),
    [("cache", "write_shard", 1), pytest.param("head", "optimiser_step", len(SHARDS), marks=pytest.mark.slow)],
)
def test_killed_while_it_looks_or_learns_it_goes_on_to_the_same_result(
    attached: Path,
    finished_run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    step: str,
    there: int,
) -> None:
    recipe = Run(attached).record().recipe
    out = tmp_path / "run"
    flags = {"network.width": 8, "image.size": 32, "variance.hidden": 8, "epochs": 10}
    command = ["attach", "--backbone", "small", "--weights", str(finished_run)]
    command += ["--data", str(pictures), "--out", str(out), "--copies", "3"]
    command += [part for key, value in flags.items() for part in ("--set", f"{key}={value}")]
    script = KILLED.format(module=module, step=step)
    killed = subprocess.run([sys.executable, "-c", script, *command], stderr=subprocess.DEVNULL, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert sorted(path.name for path in (out / "cache").glob("*.npz")) == SHARDS[:there]
    written, write_shard = [], cache.write_shard

    def write(path: Path, *shard: Any) -> None:
        written.append(path.name)
        write_shard(path, *shard)

    monkeypatch.setattr(cache, "write_shard", write)
    vssl_here(*command)
    assert written == SHARDS[there:]
    assert Run(out).record().recipe == recipe
    for name, values in load_file(Run(attached).weights_path).items():
        assert torch.equal(values, load_file(Run(out).weights_path)[name]), name
    assert not (out / "cache").exists()


def test_a_finished_run_stays_and_another_is_refused(
    attached: Path, attach_recipe: Recipe, finished_run: Path, pictures: Path
) -> None:
    before = Run(attached).weights_path.stat().st_mtime_ns
    attach_pretrained(attach_recipe, finished_run, AttachJob((str(pictures),), attached))
    assert Run(attached).weights_path.stat().st_mtime_ns == before
    with pytest.raises(UsageError, match=r"holds a run with recipe\.variance\.hidden"):
        attach_pretrained(
            override(attach_recipe, ["variance.hidden=16"]), finished_run, AttachJob((str(pictures),), attached)
        )
    with pytest.raises(UsageError, match="holds a run on"):
        attach_pretrained(attach_recipe, finished_run, AttachJob((str(pictures / "one"),), attached))


def test_a_cache_serves_other_heads_and_refuses_other_copies(
    attached: Path, attach_recipe: Recipe, finished_run: Path, pictures: Path, tmp_path: Path
) -> None:
    cache = attached.parent / "cache"
    before = {path.name: path.stat().st_mtime_ns for path in cache.glob("*.npz")}
    other = override(attach_recipe, ["variance.hidden=16", "network.embedding.whiten=null"])
    attach_pretrained(other, finished_run, AttachJob((str(pictures),), tmp_path / "other", cache=cache))
    assert {path.name: path.stat().st_mtime_ns for path in cache.glob("*.npz")} == before
    assert load_embedder(Run(tmp_path / "other")).dimension == 128
    for setting, said in (("attach.copies=2", "copies"), ("variance.sees=stages", "sees"), ("image.size=24", "prepro")):
        with pytest.raises(UsageError, match=f"the cache of another run, with other .*{said}"):
            attach_pretrained(
                override(attach_recipe, [setting]),
                finished_run,
                AttachJob((str(pictures),), tmp_path / "x", cache=cache),
            )
    with pytest.raises(UsageError, match="holds something else than a cache"):
        attach_pretrained(attach_recipe, finished_run, AttachJob((str(pictures),), tmp_path / "y", cache=pictures))


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_no_work(finished_run: Path, pictures: Path, tmp_path: Path) -> None:
    """A limit on file size stands in for a full disk."""
    command = [
        sys.executable,
        "-c",
        (
            "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
            "from vssl.cli import main; sys.argv = ['vssl', *sys.argv[1:]]; main()"
        ),
    ]
    command += ["attach", "--backbone", "small", "--weights", str(finished_run), "--data", str(pictures)]
    command += ["--out", str(tmp_path / "run"), "--set", "network.width=8", "--set", "image.size=32"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 1
    assert "File too large" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_several_folders_are_drawn_from_together(
    attach_recipe: Recipe, finished_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = (str(pictures / "one"), str(pictures / "two"))
    attach_pretrained(
        override(attach_recipe, ["attach.images=100"]), finished_run, AttachJob(folders, tmp_path / "run")
    )
    assert Run(tmp_path / "run").record().data.images == 100
    said = capsys.readouterr().err
    assert "100 of 120 images" in said
    assert "embedding by R@1 of degraded copies" in said  # no class folders inside


def test_too_few_images_and_equal_ones_are_refused(
    attach_recipe: Recipe, finished_run: Path, pictures: Path, tmp_path: Path
) -> None:
    few, equal = tmp_path / "few", tmp_path / "equal"
    few.mkdir()
    equal.mkdir()
    paths = sorted(pictures.rglob("*.png"))
    for number in range(60):
        if number < 49:
            shutil.copy(paths[number], few / f"{number}.png")
        shutil.copy(paths[0], equal / f"{number}.png")
    with pytest.raises(UsageError, match=r"49 images are too few to attach by: at least 50"):
        attach_pretrained(attach_recipe, finished_run, AttachJob((str(few),), tmp_path / "run"))
    with pytest.raises(UsageError, match="are the same picture"):
        attach_pretrained(attach_recipe, finished_run, AttachJob((str(equal),), tmp_path / "run"))
    for number in range(30):
        (few / f"bad{number}.png").write_bytes(b"no picture")
    with pytest.raises(VsslError, match=r"30 of 79|can't be read"):
        attach_pretrained(attach_recipe, finished_run, AttachJob((str(few),), tmp_path / "run"))


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("attach=null", "has no `attach`"),
        ("network.embedding.of=mean", "the head of an encoder trained here"),
        ("variance.sees=all", "a head is attached to stages or lower"),
        ("network.embedding.whiten.dimension=4000", "at least whiten.dimension"),
    ],
)
def test_recipes_of_another_kind_are_refused(
    attach_recipe: Recipe, finished_run: Path, pictures: Path, tmp_path: Path, setting: str, said: str
) -> None:
    recipe = override(attach_recipe, ["network.embedding.whiten=null", setting])
    with pytest.raises(UsageError, match=said):
        attach_pretrained(recipe, finished_run, AttachJob((str(pictures),), tmp_path / "run"))


def test_a_tenth_is_held_back_and_at_least_a_hundred() -> None:
    assert [part_held_back(images) for images in (50, 499, 500, 999, 2000)] == [10, 99, 100, 100, 200]
