"""Reads a run's data: all images decoded into memory where they fit, a stream of batches where they do not."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from vssl.errors import UsageError
from vssl.images.decoding import Preprocessing
from vssl.memory import memory_bytes
from vssl.sources.in_memory import Allocate, ImageSet, load_images
from vssl.sources.opening import splits_of
from vssl.sources.source import Source
from vssl_training.data.classes import load_classes, paths_of
from vssl_training.data.placing import HostImages, Place, Room, room_here
from vssl_training.data.sharing import decoded_once
from vssl_training.data.stream import SHOWN, Images, Stream, too_many_unreadable
from vssl_training.data.torchvision import open_data
from vssl_training.recipe.sections import SettledImage
from vssl_training.run import processes
from vssl_training.run.record import DataRecord, record_data, settled_preprocessing

SAMPLE = 10_000
"""Random images of a stream that are kept in memory: to judge by, and for the report."""

MAX_UNREADABLE = 0.1
"""Part of the files that may be damaged before a run stops; the default of `--max-unreadable`."""

SAID = {
    "device": "all are decoded once and kept",
    "host": "all are decoded once and kept, and copied to the device batch by batch",
    "stream": "batches are decoded as they are needed",
}
"""Of each place."""

JUDGING_SPLITS = ("val", "valid", "validation")


@dataclass(frozen=True)
class TrainingData:
    """What a run trains on and is judged by.

    Attributes:
        images: all of them as they are stored, uint8 [N, S, S, 3], or a stream; batches of them are on the device.
        sample: images as the network sees them, in memory: all, or a random part of them where they are streamed or
            stored at another size.
        val: labelled images that are only judged by, if there are any.
        record: what identifies the data of a run.
    """

    images: Images
    sample: ImageSet
    val: ImageSet | None
    record: DataRecord

    @property
    def failures(self) -> list[tuple[str, str]]:
        """(path, reason) of the files that could not be read so far."""
        return list(self.images.failures.items()) if isinstance(self.images, Stream) else self.sample.failures


def load_data(
    location: str,
    val: str | None,
    image: SettledImage,
    device: torch.device,
    max_unreadable: float,
    say: Callable[[str], None],
    room: Room | None = None,
) -> TrainingData:
    """Read a run's data. Where it holds splits, see `chosen_splits`.

    `image.classes` leaves out images of other classes, and `image.stored` names what views are cut out of. `room` is
    what images may fill, the host's memory by default.

    Raises:
        UsageError: no images, one that can't be trained on, or a `val` whose classes are not those of the data.
        VsslError: more than `max_unreadable` (a part of 1) of the files can't be read.
    """
    location, val = chosen_splits(location, val, say)
    source = open_data(location)
    paths, stored = paths_of(source, image.classes), stored_preprocessing(image)
    needed = len(paths) * stored.size**2 * 3
    kept = (
        f"{len(paths):,} images at {stored.size} px take {needed / 2**30:.2f} GiB "
        f"of {memory_bytes() / 2**30:.1f} GiB of memory: "
    )
    place: Place = "stream" if image.stored == "original" else common((room or room_here()).place(needed))
    images: Images
    if image.stored == "original":
        say(f"{len(paths):,} images: each is decoded anew for its views, at the size that it is stored in")
    else:
        say(kept + SAID[place])
    if place != "stream":
        decoded = decoded_once(lambda allocate: load_images(source, stored, paths, allocate))
        sample = decoded if stored == settled_preprocessing(image) else drawn_sample(source, image, decoded.paths)
        pixels = torch.from_numpy(decoded.pixels)
        images = pixels.to(device) if place == "device" else HostImages(pixels, device)
        record = record_data(location, decoded)
    else:
        sample = drawn_sample(source, image, paths)
        images = Stream(source, paths, stored, device, max_unreadable, say)
        names = "\n".join(paths).encode()
        digest = hashlib.sha256(names + sample.pixels.tobytes()).hexdigest()
        record = DataRecord(location=location, images=len(paths), sha256=digest)
        images.failures |= dict(sample.failures)
    for line in filter(None, (source.passed_over.as_text(), source.passed_over.unreadable_as_text())):
        say(line)
    for name, reason in sample.failures[:SHOWN]:
        say(f"skipped {name}: {reason}")
    check_trainable(location, sample, max_unreadable)
    judging = None if val is None else decoded_once(partial(load_judging, val, image))
    if judging is not None and sample.classes and judging.classes and sample.classes != judging.classes:
        raise UsageError(f"{val}: its classes {judging.classes} are not those of the data, {sample.classes}")
    say(f"{record.images:,} images, {len(sample.failures):,} skipped, {_classes_as_text(sample.classes)}")
    return TrainingData(images, sample, judging, record)


def common(place: Place) -> Place:
    """The place that all processes have room for: they must train on the same."""
    streams, not_on_device = processes.any_process([place == "stream", place != "device"])
    return "stream" if streams else "host" if not_on_device else "device"


def stored_preprocessing(image: SettledImage) -> Preprocessing:
    """How files become the images that are kept: at the side that they are stored in, if that is a number."""
    shown = settled_preprocessing(image)
    return replace(shown, size=image.stored) if isinstance(image.stored, int) else shown


def drawn_sample(source: Source, image: SettledImage, paths: list[str]) -> ImageSet:
    """A random part of the images, as the network sees them, in memory."""
    drawn = np.random.default_rng(0).permutation(len(paths))[:SAMPLE]
    wanted = [paths[i] for i in sorted(drawn)]
    return decoded_once(lambda allocate: load_images(source, settled_preprocessing(image), wanted, allocate))


def load_judging(location: str, image: SettledImage, allocate: Allocate) -> ImageSet:
    """Labelled images that are only judged by, as the network sees them."""
    return load_classes(open_data(location), settled_preprocessing(image), image.classes, allocate)


def chosen_splits(location: str, val: str | None, say: Callable[[str], None]) -> tuple[str, str | None]:
    """Where to train and where to judge: the `train` and `val` of a folder or archive that holds splits."""
    splits = splits_of(location)
    if not splits:
        return location, val
    train = splits["train"]
    val = val or next((splits[name] for name in JUDGING_SPLITS if name in splits), None)
    unused = [name for name, place in splits.items() if place not in (train, val)]
    judged = f"judging by {val}" if val else "no val split"
    say(f"splits: training on {train}; {judged}; {', '.join(unused) or 'nothing'} left out")
    return train, val


def check_trainable(location: str, sample: ImageSet, max_unreadable: float) -> None:
    """Refuse images that nothing can be learned from.

    Raises:
        UsageError: there is only one, or all are the same picture.
        VsslError: more than `max_unreadable` of the files can't be read.
    """
    tried = len(sample) + len(sample.failures)
    if len(sample.failures) > max_unreadable * tried:
        raise too_many_unreadable(len(sample.failures), tried, *sample.failures[0])
    if len(sample) < 2:
        raise UsageError(f"{location}: one image is not enough to train on")
    if sample.all_equal:
        raise UsageError(f"{location}: all of its images are the same picture; there is nothing to learn from them")


def _classes_as_text(names: list[str]) -> str:
    """How the top folders were understood."""
    if not names:
        return "no classes"
    rest = ", …" if len(names) > SHOWN else ""
    return f"{len(names):,} classes ({', '.join(names[:SHOWN])}{rest})"
