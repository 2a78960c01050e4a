"""What a run trains on: from memory or streamed it is the same, to the bit and at any position."""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.bad_files import bad_files
from tests.command_line import vssl_here
from tests.conftest import FASHION
from tests.training.killed import killed_after
from vssl.errors import UsageError, VsslError
from vssl.images.decoding import Preprocessing
from vssl.sources.in_memory import load_images
from vssl.sources.opening import open_source, splits_of
from vssl_training.data.classes import paths_of
from vssl_training.data.loading import TrainingData, load_data
from vssl_training.data.order import Order
from vssl_training.data.stream import Stream, batch_of
from vssl_training.judging.evaluation import evaluate
from vssl_training.judging.online import OnlineJudge
from vssl_training.loop.job import TrainingOptions
from vssl_training.loop.training import train
from vssl_training.recipe.reading import override
from vssl_training.recipe.sections import ImageSettings, Recipe
from vssl_training.run.folder import Run
from vssl_training.run.record import Budget

CPU = torch.device("cpu")
PREPROCESSING = Preprocessing(24)
IMAGE = ImageSettings(size=24).settled()
ORDER = Order(seed=0, phase=0, count=40, batch=16)


def silent(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def streaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """No set fits into this memory."""
    monkeypatch.setattr("vssl_training.data.placing.SHARE_OF_MEMORY", 0)


def load(location: str | Path, val: Path | None = None, limit: float = 0.5) -> TrainingData:
    return load_data(str(location), None if val is None else str(val), IMAGE, CPU, limit, silent)


@pytest.fixture(scope="module")
def shards(fashion_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    for index, image in enumerate(sorted(fashion_folder.rglob("*.png"))):
        with tarfile.open(folder / f"{index // 10}.tar", "a") as tar:
            tar.add(image, str(image.relative_to(fashion_folder)))
    return folder


@pytest.mark.parametrize("kind", ["folder", "zip", "shards"])
@pytest.mark.usefixtures("streaming")
def test_a_stream_gives_what_memory_would(fashion_folder: Path, shards: Path, kind: str) -> None:
    location = {"folder": str(fashion_folder), "zip": f"{FASHION}::test", "shards": str(shards)}[kind]
    images = load(location).images
    assert isinstance(images, Stream)
    decoded = torch.from_numpy(load_images(open_source(location), PREPROCESSING).pixels)
    order = Order(seed=3, phase=1, count=len(decoded), batch=16)
    # To the end of the first epoch of 40 images and beyond, back to the beginning, and from the middle on.
    for step in (0, 1, 2, 3, 0, 1, 7, 8):
        assert torch.equal(batch_of(images, order, step), batch_of(decoded, order, step))
    again = load(location).images
    assert torch.equal(batch_of(again, order, 7), batch_of(decoded, order, 7))


@pytest.mark.usefixtures("streaming")
def test_a_streamed_run_equals_one_from_memory(
    finished_run: Path, fashion_folder: Path, small_recipe: Recipe, tmp_path: Path
) -> None:
    train(small_recipe, str(fashion_folder), tmp_path / "run", Budget(steps=40), seed=0)
    assert same_weights(finished_run, tmp_path / "run")


def same_weights(a: Path, b: Path) -> bool:
    ours, theirs = load_file(Run(a).weights_path), load_file(Run(b).weights_path)
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_streamed_run_that_was_killed_goes_on_to_the_same_weights(
    finished_run: Path, shards: Path, small_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of the same images in the same order; SIGKILL in the second epoch takes the workers too."""
    program = "import vssl_training.data.placing as data; data.SHARE_OF_MEMORY = 0\n" + killed_after(5)
    arguments = ["train", "--data", str(shards), "--out", str(tmp_path / "run"), "--steps", "40", *small_flags]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.wait() == -signal.SIGKILL
    assert not Run(tmp_path / "run").finished
    monkeypatch.setattr("vssl_training.data.placing.SHARE_OF_MEMORY", 0)
    done = vssl_here(*arguments)
    assert "batches are decoded as they are needed" in done.stderr
    assert "going on with the encoder phase" in done.stderr
    assert same_weights(finished_run, tmp_path / "run")
    while lives(process.pid):  # its workers look for it every few seconds
        time.sleep(0.05)


def lives(group: int) -> bool:
    """Whether any process of a group is left."""
    with suppress(ProcessLookupError):
        os.killpg(group, 0)
        return True
    return False


@pytest.mark.usefixtures("streaming")
def test_a_file_that_cant_be_streamed_is_named_and_replaced(damaged: Path) -> None:
    said: list[str] = []
    data = load_data(str(damaged), None, IMAGE, CPU, 0.2, said.append)
    decoded = load_images(open_source(str(damaged)), PREPROCESSING)
    paths = list(open_source(str(damaged)).paths())
    order = Order(seed=0, phase=0, count=45, batch=45)
    batch = batch_of(data.images, order, 0)
    for index, pixels in zip(order(0).tolist(), batch.numpy(), strict=True):
        path = next(paths[(index + i) % 45] for i in range(45) if paths[(index + i) % 45] in decoded.paths)
        np.testing.assert_array_equal(pixels, decoded.pixels[decoded.paths.index(path)])
    assert sorted(path for path, _ in data.failures) == sorted(f"bag/{name}" for name in bad_files())
    assert sum(line.startswith("skipped bag/empty.jpg: the file is empty") for line in said) == 1


@pytest.mark.parametrize("share", [0.5, 0])
def test_too_many_files_that_cant_be_read_stop_the_run(
    damaged: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr("vssl_training.data.placing.SHARE_OF_MEMORY", share)
    with pytest.raises(VsslError, match=r"5 of 45 files can't be read \(bag/.*--max-unreadable"):
        load(damaged, limit=0.1)
    load(damaged, limit=0.12)


@pytest.mark.usefixtures("streaming")
def test_a_stream_that_turns_bad_stops_the_run(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sample that is read at the start does not show."""
    monkeypatch.setattr("vssl_training.data.loading.SAMPLE", 4)
    images = load(damaged, limit=0.1).images
    with pytest.raises(VsslError, match="5 of 45 files can't be read"):
        batch_of(images, Order(seed=0, phase=0, count=45, batch=45), 0)


@pytest.fixture
def parts(fashion_folder: Path, tmp_path: Path) -> Path:
    """`train` and `val` folders of labelled images, and an unlabelled set beside them."""
    for index, image in enumerate(sorted(fashion_folder.rglob("*.png"))):
        split = "val" if index % 4 == 0 else "train"
        for target in (tmp_path / "set" / split / image.parent.name, tmp_path / "bare"):
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, target / f"{index}.png")
    return tmp_path


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_splits_of_a_set_are_told_apart(parts: Path, kind: str) -> None:
    location = str(parts / "set")
    if kind == "zip":
        location = shutil.make_archive(location, "zip", parts / "set")
    data = load(location)
    assert data.val is not None
    assert (len(data.sample), len(data.val)) == (30, 10)
    assert data.sample.classes == data.val.classes == ["bag", "coat"]
    judge = OnlineJudge.draw(data.sample, 0, CPU, data.val)
    asked = {image.tobytes() for image in judge.pixels[: judge.queries].numpy()}
    bank = {image.tobytes() for image in judge.pixels[judge.queries :].numpy()}
    assert asked <= {image.tobytes() for image in data.val.pixels}
    assert bank == {image.tobytes() for image in data.sample.pixels}


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_splits_may_be_written_large_and_have_files_beside_them(parts: Path, kind: str) -> None:
    (parts / "set" / "train").rename(parts / "set" / "Train")
    (parts / "set" / "val").rename(parts / "set" / "TEST")
    for name in ("README.md", "labels.csv"):
        (parts / "set" / name).touch()
    location = str(parts / "set")
    if kind == "zip":
        location = shutil.make_archive(location, "zip", parts / "set")
    said: list[str] = []
    data = load_data(location, None, IMAGE, CPU, 0.5, said.append)
    assert (len(data.sample), data.val) == (30, None)
    join = "/" if kind == "folder" else "::"
    assert said[0] == f"splits: training on {location}{join}Train; no val split; test left out"
    assert said[-1] == "30 images, 0 skipped, 2 classes (bag, coat)"


def test_folders_that_are_taken_for_classes_are_named(parts: Path) -> None:
    (parts / "set" / "val").rename(parts / "set" / "extras")
    (parts / "set" / "photo.cr3").touch()
    said: list[str] = []
    load_data(str(parts / "set"), None, IMAGE, CPU, 0.5, said.append)
    assert said[-2:] == ["passed over: 1 .cr3", "40 images, 0 skipped, 2 classes (extras, train)"]


@pytest.mark.parametrize("tops", [("train", "trains"), ("val", "test"), ("a", "b"), ("train", "Train")])
def test_folders_that_are_classes_are_no_splits(tmp_path: Path, tops: tuple[str, ...]) -> None:
    for top in tops:
        (tmp_path / top).mkdir()
        (tmp_path / top / "1.png").touch()
    assert splits_of(str(tmp_path)) == {}


def test_labelled_images_judge_a_run_on_unlabelled_ones(parts: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    for name, val in (("without", None), ("with", str(parts / "set" / "val"))):
        train(small_recipe, str(parts / "bare"), tmp_path / name, Budget(steps=4), 0, TrainingOptions(val=val))
        assert any("knn" in line for line in Run(tmp_path / name).metrics()) == (val is not None)
    assert same_weights(tmp_path / "without", tmp_path / "with")


def test_classes_of_another_set_are_refused(parts: Path, tmp_path: Path) -> None:
    shutil.copytree(parts / "set" / "val", tmp_path / "other")
    (tmp_path / "other" / "bag").rename(tmp_path / "other" / "hat")
    with pytest.raises(UsageError, match=r"its classes \['coat', 'hat'\] are not those of the data"):
        load(parts / "set" / "train", tmp_path / "other")


def test_a_list_chooses_classes(parts: Path, shards: Path, small_recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("coat\n")
    recipe = override(small_recipe, [f"image.classes={tmp_path / 'list'}"])
    trained, judged = (list((parts / "set" / split / "coat").iterdir()) for split in ("train", "val"))
    train(recipe, str(parts / "set"), tmp_path / "run", Budget(steps=4), 0)
    assert Run(tmp_path / "run").record().data.images == len(trained)
    figures = evaluate(tmp_path / "run", str(parts / "set"), None)
    assert (figures["images"], figures["bank_images"]) == (len(judged), len(trained))
    coats = paths_of(open_source(str(shards)), str(tmp_path / "list"))
    assert len(coats) == 20
    assert all("/coat/" in path for path in coats)


@pytest.mark.parametrize(("text", "said"), [("", "holds no class"), (None, "is no list of the package")])
def test_a_list_that_is_none_is_refused(fashion_folder: Path, tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "list").write_text(text)
    with pytest.raises(UsageError, match=rf"image\.classes: .*list {said}"):
        paths_of(open_source(str(fashion_folder)), str(tmp_path / "list"))


def test_a_class_of_a_list_without_images_is_named(fashion_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("coat\nhat\n")
    for location in (fashion_folder, fashion_folder / "coat"):
        with pytest.raises(UsageError, match=r"no images of . of the 2 classes in .*list, such as (hat|coat)"):
            paths_of(open_source(str(location)), str(tmp_path / "list"))


@pytest.mark.usefixtures("streaming")
def test_batches_go_through_pipes_where_shared_memory_is_small(
    fashion_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = batch_of(load(fashion_folder).images, ORDER, 0)
    monkeypatch.setattr("vssl_training.data.stream.free_shared_memory", lambda: 1000)
    said: list[str] = []
    images = load_data(str(fashion_folder), None, IMAGE, CPU, 0.1, said.append).images
    torch.testing.assert_close(batch_of(images, ORDER, 0), wanted, rtol=0, atol=0)
    assert any("--shm-size" in line for line in said)


SMALL_SHARED_MEMORY = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o size=256k none /dev/shm && exec "$@"', "sh"]


@pytest.mark.skipif(
    subprocess.run([*SMALL_SHARED_MEMORY, "true"], check=False, capture_output=True).returncode != 0,
    reason="a small /dev/shm needs root's mounts",
)
@pytest.mark.parametrize(
    "known",
    [pytest.param(True, marks=pytest.mark.slow, id="seen to be small"), pytest.param(False, id="full when it is late")],
)
def test_a_run_in_dockers_shared_memory_ends(
    fashion_folder: Path, tmp_path: Path, small_flags: list[str], known: bool
) -> None:
    """Where the batches do not fit and nobody noticed, no batch ever comes: the run ends with one line."""
    patches = (
        "from vssl_training.data import placing, stream; placing.SHARE_OF_MEMORY = 0; stream.WORKER_SECONDS = 5.0; "
    )
    if not known:
        patches += "stream.free_shared_memory = lambda: 2**40; "
    flags = ["train", "--data", str(fashion_folder), "--out", str(tmp_path / "run"), *small_flags, "--steps", "6"]
    program = [sys.executable, "-c", patches + "from vssl.cli import main; main()", *flags, "--set", "image.size=128"]
    done = subprocess.run([*SMALL_SHARED_MEMORY, *program], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == (0 if known else 1), done.stderr
    if not known:
        assert "vssl: a process that decodes images failed: " in done.stderr


@pytest.mark.usefixtures("streaming")
def test_what_fails_in_a_worker_is_one_line(fashion_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise MemoryError("no memory left")

    images = load(fashion_folder).images
    monkeypatch.setattr("vssl_training.data.stream.decode", broken)  # workers are forked
    with pytest.raises(VsslError, match=r"^a process that decodes images failed: no memory left$"):
        batch_of(images, ORDER, 0)


def test_one_picture_many_times_is_refused_as_data(fashion_folder: Path, tmp_path: Path) -> None:
    picture = next(fashion_folder.rglob("*.png"))
    for number in range(12):
        shutil.copy(picture, tmp_path / f"{number}.png")
    with pytest.raises(UsageError, match="all of its images are the same picture"):
        load(tmp_path)
