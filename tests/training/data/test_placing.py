"""Where images are kept, and that every place gives the same steps."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vssl_training.data.loading import load_data
from vssl_training.data.order import Order
from vssl_training.data.placing import SHARE_OF_DEVICE, SHARE_OF_MEMORY, HostImages, Room, room
from vssl_training.data.stream import Stream, batch_of
from vssl_training.phases.encoder import EncoderTraining
from vssl_training.phases.variance import VarianceTraining
from vssl_training.recipe.sections import Recipe

GIB = 2.0**30
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("needed", "copies", "free", "step", "place"),
    [
        (30, 1, 80, 10, "device"),
        (30, 1, 40, 10, "host"),  # a step leaves 30 GiB free, of which images may have nine tenths
        (30, 1, 10, 20, "host"),  # a step that is larger than the device leaves nothing
        (70, 1, 80, 10, "stream"),  # the host decodes what then lies on the device
        (30, 4, 80, 10, "stream"),  # where processes can't share them
        (30, 1, None, 0, "device"),  # the device is the host
        (70, 1, None, 0, "stream"),
    ],
)
def test_where_images_are_kept(needed: float, copies: int, free: float | None, step: float, place: str) -> None:
    there = room(128 * GIB, copies, None if free is None else free * GIB, step * GIB)
    assert there.place(needed * GIB) == place


@given(
    memory=st.floats(1, 1e12),
    copies=st.integers(1, 64),
    free=st.none() | st.floats(0, 1e12),
    step=st.floats(0, 1e12),
    needed=st.floats(0, 1e12),
)
def test_no_place_is_overfilled(memory: float, copies: int, free: float | None, step: float, needed: float) -> None:
    place = room(memory, copies, free, step).place(needed)
    if place != "stream":
        assert needed * copies <= SHARE_OF_MEMORY * memory * (1 + 1e-9)
    if place == "device" and free is not None and needed:
        assert needed <= SHARE_OF_DEVICE * (free - step)


def test_every_place_gives_the_same_steps(fashion_folder: Path, small_recipe: Recipe) -> None:
    image = small_recipe.image.settled()
    rooms = {"device": Room(GIB), "host": Room(GIB, 0.0), "stream": Room(0.0)}
    images = {
        place: load_data(str(fashion_folder), None, image, CPU, 0.1, lambda _: None, there).images
        for place, there in rooms.items()
    }
    kinds = {place: type(each) for place, each in images.items()}
    assert kinds == {"device": torch.Tensor, "host": HostImages, "stream": Stream}
    order = Order(0, 0, 40, 16)
    for step in range(3):
        assert torch.equal(batch_of(images["host"], order, step), batch_of(images["device"], order, step))
    losses = {}
    for place in ("device", "host"):
        first = EncoderTraining(small_recipe, images[place], 0, 4)
        second = VarianceTraining(small_recipe, first.student, images[place], 0, 4).prepare()
        losses[place] = [phase.step(0)["loss"].item() for phase in (first, second)]
    assert losses["host"] == losses["device"]
